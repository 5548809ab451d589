//! Passkeys: registration, login without a password, second factor, step-up; made and used by an authenticator of the tests.

use std::time::Duration;

use countersign::grpc::pb::{
    BeginPasskeyLoginRequest, BeginPasskeyLoginResponse, BeginPasskeyRegistrationRequest,
    BeginPasskeyRegistrationResponse, CompleteLoginRequest, Factor, FactorKind,
    FinishPasskeyLoginRequest, FinishPasskeyLoginResponse, FinishPasskeyRegistrationRequest,
    FinishPasskeyRegistrationResponse, ListFactorsRequest, LoginChallenge, LoginRequest,
    ReauthenticateRequest, RemoveFactorRequest, TokenPair, complete_login_request,
    reauthenticate_request,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::support::{
    PASSWORD, TestDatabase, TestServer, on_both_databases,
    operator::bearing,
    passkey::{TestAuthenticator, encode, with_client_data},
    reason,
};

const ADA: &str = "ada@example.org";
const BOB: &str = "bob@example.org";
const PHISHING_RESISTANT: &str = "urn:countersign:acr:phr";
const REFUSED: &str = "SECOND_FACTOR_INVALID";

async fn begin_registration(
    server: &TestServer,
    access_token: &str,
) -> Result<BeginPasskeyRegistrationResponse, Status> {
    let request = bearing(access_token, BeginPasskeyRegistrationRequest {});
    let response = server.account().begin_passkey_registration(request).await?;
    Ok(response.into_inner())
}

async fn finish_registration(
    server: &TestServer,
    access_token: &str,
    challenge_token: &str,
    response: &Value,
    label: &str,
) -> Result<FinishPasskeyRegistrationResponse, Status> {
    let request = FinishPasskeyRegistrationRequest {
        challenge_token: challenge_token.to_owned(),
        passkey_response_json: response.to_string(),
        label: label.to_owned(),
    };
    let request = bearing(access_token, request);
    let response = server
        .account()
        .finish_passkey_registration(request)
        .await?;
    Ok(response.into_inner())
}

/// Registers the passkey of an authenticator and returns the session's tokens that say so.
async fn add_passkey(
    server: &TestServer,
    tokens: &TokenPair,
    authenticator: &mut TestAuthenticator,
    label: &str,
) -> TokenPair {
    let begun = begin_registration(server, &tokens.access_token)
        .await
        .unwrap();
    let response = authenticator.create(&begun.creation_options_json);
    let finished = finish_registration(
        server,
        &tokens.access_token,
        &begun.challenge_token,
        &response,
        label,
    );
    let factor = finished.await.unwrap().factor.unwrap();
    assert_eq!(
        (factor.kind(), factor.label.as_str()),
        (FactorKind::Passkey, label)
    );
    server.refresh(&tokens.refresh_token).await.unwrap()
}

/// A user with one passkey, and the user's tokens.
pub async fn user_with_passkey(server: &TestServer, email: &str) -> (TestAuthenticator, TokenPair) {
    let mut authenticator = TestAuthenticator::new();
    let tokens = server.signed_in(email).await;
    let tokens = add_passkey(server, &tokens, &mut authenticator, "").await;
    (authenticator, tokens)
}

pub async fn begin_login(server: &TestServer, email: &str) -> BeginPasskeyLoginResponse {
    let request = BeginPasskeyLoginRequest {
        email: email.to_owned(),
    };
    let response = server.auth().begin_passkey_login(request).await;
    response.unwrap().into_inner()
}

pub async fn finish_login(
    server: &TestServer,
    challenge_token: &str,
    response: &Value,
) -> Result<FinishPasskeyLoginResponse, Status> {
    let request = FinishPasskeyLoginRequest {
        challenge_token: challenge_token.to_owned(),
        passkey_response_json: response.to_string(),
        device_label: "Ada's laptop".to_owned(),
        ..FinishPasskeyLoginRequest::default()
    };
    Ok(server
        .auth()
        .finish_passkey_login(request)
        .await?
        .into_inner())
}

/// A whole login by passkey.
pub async fn passkey_login(
    server: &TestServer,
    email: &str,
    authenticator: &mut TestAuthenticator,
) -> Result<FinishPasskeyLoginResponse, Status> {
    let begun = begin_login(server, email).await;
    let response = authenticator.get(&begun.request_options_json);
    finish_login(server, &begun.challenge_token, &response).await
}

/// The challenge of a login by a right password.
async fn login_challenge(server: &TestServer, email: &str) -> LoginChallenge {
    let request = LoginRequest {
        email: email.to_owned(),
        password: PASSWORD.to_owned(),
        ..LoginRequest::default()
    };
    let response = server.auth().login(request).await.unwrap().into_inner();
    assert!(response.tokens.is_none());
    response.challenge.unwrap()
}

async fn complete_login(
    server: &TestServer,
    challenge_token: &str,
    response: &Value,
) -> Result<TokenPair, Status> {
    let proof = complete_login_request::Proof::PasskeyResponseJson(response.to_string());
    let request = CompleteLoginRequest {
        challenge_token: challenge_token.to_owned(),
        proof: Some(proof),
    };
    let response = server.auth().complete_login(request).await?;
    Ok(response.into_inner().tokens.unwrap())
}

async fn reauthenticate(
    server: &TestServer,
    access_token: &str,
    challenge_token: &str,
    response: &Value,
) -> Result<TokenPair, Status> {
    let proof = reauthenticate_request::Proof::PasskeyResponseJson(response.to_string());
    let request = ReauthenticateRequest {
        challenge_token: challenge_token.to_owned(),
        proof: Some(proof),
    };
    let request = bearing(access_token, request);
    let response = server.account().reauthenticate(request).await?;
    Ok(response.into_inner().tokens.unwrap())
}

async fn factors(server: &TestServer, access_token: &str) -> Vec<Factor> {
    let request = bearing(access_token, ListFactorsRequest {});
    let response = server.account().list_factors(request).await;
    response.unwrap().into_inner().factors
}

/// Claims `acr` and `amr` of an access token.
async fn strength(server: &TestServer, tokens: &TokenPair) -> (String, Vec<String>) {
    let valid = server.validate(&tokens.access_token).await.unwrap();
    (valid.acr, valid.amr)
}

fn methods(names: &[&str]) -> (String, Vec<String>) {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    (PHISHING_RESISTANT.to_owned(), names)
}

on_both_databases! {
    async fn a_passkey_logs_in_without_a_password(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in(ADA).await;
        let begun = begin_registration(&server, &tokens.access_token).await.unwrap();
        let mut authenticator = TestAuthenticator::new();
        let response = authenticator.create(&begun.creation_options_json);
        let token = &begun.challenge_token;
        let finished = finish_registration(&server, &tokens.access_token, token, &response, "Key");
        let finished = finished.await.unwrap();
        assert_eq!(finished.recovery_codes.len(), 10);
        // With an address, in any spelling of it, and without.
        for email in ["", ADA, "Ada@Example.ORG"] {
            let login = passkey_login(&server, email, &mut authenticator).await.unwrap();
            let tokens = login.tokens.unwrap();
            assert_eq!(login.user.unwrap().email, ADA);
            assert!(login.device_token.starts_with("csd_"));
            assert_eq!(strength(&server, &tokens).await, methods(&["swk", "mfa"]));
            // The session is one like all others.
            server.refresh(&tokens.refresh_token).await.unwrap();
            let listed = factors(&server, &tokens.access_token).await;
            assert_eq!((listed.len(), listed[0].label.as_str()), (1, "Key"));
            assert!(listed[0].last_use_time.is_some());
        }
    }

    async fn a_passkey_completes_a_login_by_password(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (mut ada, _) = user_with_passkey(&server, ADA).await;
        let (mut bob, _) = user_with_passkey(&server, BOB).await;
        let challenge = login_challenge(&server, ADA).await;
        assert_eq!(challenge.factor_kinds, [FactorKind::Passkey as i32]);
        let response = ada.get(&challenge.request_options_json);
        let tokens = complete_login(&server, &challenge.challenge_token, &response).await.unwrap();
        assert_eq!(strength(&server, &tokens).await, methods(&["pwd", "swk", "mfa"]));
        // One use.
        let again = complete_login(&server, &challenge.challenge_token, &response).await;
        assert_eq!(reason(again), REFUSED);
        // Another user's passkey, though it answers the challenge.
        let challenge = login_challenge(&server, ADA).await;
        let mut options: Value = serde_json::from_str(&challenge.request_options_json).unwrap();
        options["allowCredentials"] = json!([]);
        let foreign = bob.get(&options.to_string());
        let stolen = complete_login(&server, &challenge.challenge_token, &foreign).await;
        assert_eq!(reason(stolen), REFUSED);
        // A challenge of BeginPasskeyLogin does not stand for the password.
        let begun = begin_login(&server, ADA).await;
        let response = ada.get(&begun.request_options_json);
        let skipped = complete_login(&server, &begun.challenge_token, &response).await;
        assert_eq!(reason(skipped), REFUSED);
    }

    async fn a_passkey_steps_up_its_own_user_s_session(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (mut ada, tokens) = user_with_passkey(&server, ADA).await;
        let (mut bob, _) = user_with_passkey(&server, BOB).await;
        server.clock.advance(Duration::from_secs(700));
        let stale = begin_registration(&server, &tokens.access_token).await;
        assert_eq!(reason(stale), "STEP_UP_REQUIRED");
        let begun = begin_login(&server, "").await;
        let foreign = bob.get(&begun.request_options_json);
        let token = &begun.challenge_token;
        let stolen = reauthenticate(&server, &tokens.access_token, token, &foreign).await;
        assert_eq!(reason(stolen), REFUSED);
        let begun = begin_login(&server, "").await;
        let response = ada.get(&begun.request_options_json);
        let token = &begun.challenge_token;
        let renewed = reauthenticate(&server, &tokens.access_token, token, &response).await.unwrap();
        assert_eq!(renewed.session_id, tokens.session_id);
        let valid = server.validate(&renewed.access_token).await.unwrap();
        assert_eq!(valid.acr, PHISHING_RESISTANT);
        assert_eq!(valid.auth_time.unwrap().seconds, server.clock.now().seconds());
        begin_registration(&server, &renewed.access_token).await.unwrap();
        let again = reauthenticate(&server, &tokens.access_token, token, &response).await;
        assert_eq!(reason(again), REFUSED);
    }

    async fn a_user_has_several_passkeys_until_they_are_removed(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (mut first, tokens) = user_with_passkey(&server, ADA).await;
        let begun = begin_registration(&server, &tokens.access_token).await.unwrap();
        let options: Value = serde_json::from_str(&begun.creation_options_json).unwrap();
        assert_eq!(options["excludeCredentials"].as_array().unwrap().len(), 1);
        // The list is in the order of registration.
        server.clock.advance(Duration::from_secs(1));
        let mut second = TestAuthenticator::counting();
        let tokens = add_passkey(&server, &tokens, &mut second, "Second").await;
        let listed = factors(&server, &tokens.access_token).await;
        let labels: Vec<_> = listed.iter().map(|factor| factor.label.as_str()).collect();
        assert_eq!(labels, ["", "Second"]);
        for authenticator in [&mut first, &mut second] {
            passkey_login(&server, "", authenticator).await.unwrap();
        }
        let request = RemoveFactorRequest {
            factor_id: listed[0].factor_id.clone(),
        };
        let request = bearing(&tokens.access_token, request);
        server.account().remove_factor(request).await.unwrap();
        assert_eq!(reason(passkey_login(&server, "", &mut first).await), REFUSED);
        passkey_login(&server, ADA, &mut second).await.unwrap();
    }

    async fn of_answers_to_one_challenge_at_once_one_succeeds(database: TestDatabase) {
        let server = TestServer::start_on_system_clock(&database, &[]).await;
        let other = TestServer::start_on_system_clock(&database, &[]).await;
        let (mut authenticator, _) = user_with_passkey(&server, ADA).await;
        let begun = begin_login(&server, "").await;
        let response = authenticator.get(&begun.request_options_json);
        let servers = [&server, &other];
        let answers = (0..8).map(|at| finish_login(servers[at % 2], &begun.challenge_token, &response));
        let outcomes = join_all(answers).await;
        let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(won, 1);
        for lost in outcomes.into_iter().filter(Result::is_err) {
            assert_eq!(reason(lost), REFUSED);
        }
    }

    async fn a_counter_that_goes_back_is_refused(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in(ADA).await;
        let mut authenticator = TestAuthenticator::counting();
        add_passkey(&server, &tokens, &mut authenticator, "").await;
        passkey_login(&server, "", &mut authenticator).await.unwrap();
        // Two answers, and the later one arrives first, as if a copy of the authenticator had made the other.
        let [early, late] = [begin_login(&server, "").await, begin_login(&server, "").await];
        let early_response = authenticator.get(&early.request_options_json);
        let late_response = authenticator.get(&late.request_options_json);
        finish_login(&server, &late.challenge_token, &late_response).await.unwrap();
        let result = finish_login(&server, &early.challenge_token, &early_response).await;
        assert_eq!(reason(result), REFUSED);
    }

    async fn begin_passkey_login_does_not_tell_who_has_an_account_or_a_passkey(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        user_with_passkey(&server, ADA).await;
        server.register(BOB).await.unwrap();
        let mut answers = Vec::new();
        for email in ["", ADA, BOB, "nobody@example.org"] {
            let begun = begin_login(&server, email).await;
            let mut options: Value = serde_json::from_str(&begun.request_options_json).unwrap();
            let challenge = options["challenge"].take();
            assert_eq!(challenge.as_str().unwrap().len(), 43);
            assert_eq!(options["allowCredentials"], json!([]));
            answers.push((options, begun.expire_time));
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]));
    }

    async fn a_passkey_of_another_user_than_was_named_is_refused(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (mut ada, _) = user_with_passkey(&server, ADA).await;
        server.register(BOB).await.unwrap();
        for email in [BOB, "nobody@example.org"] {
            assert_eq!(reason(passkey_login(&server, email, &mut ada).await), REFUSED);
        }
    }

    async fn whatever_is_wrong_with_an_answer_the_reason_is_one(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (mut authenticator, tokens) = user_with_passkey(&server, ADA).await;
        let begun = begin_login(&server, "").await;
        let good = authenticator.get(&begun.request_options_json);
        let token = begun.challenge_token.as_str();
        let other = begin_login(&server, "").await;
        let with = |member: &str, bytes: &[u8]| {
            let mut changed = good.clone();
            changed["response"][member] = encode(bytes).into();
            changed
        };
        let mut unknown = good.clone();
        unknown["id"] = "AAAA".into();
        unknown["rawId"] = "AAAA".into();
        let registration = begin_registration(&server, &tokens.access_token).await.unwrap();
        for (token, response) in [
            (other.challenge_token.as_str(), good.clone()),
            (registration.challenge_token.as_str(), good.clone()),
            ("", good.clone()),
            ("csc_AAAA", good.clone()),
            (token, unknown),
            (token, with("signature", &[0x30, 0x00])),
            (token, with("authenticatorData", &[0; 37])),
            (token, with("userHandle", &[0; 16])),
            (token, with_client_data(good.clone(), "origin", "https://evil.example")),
            (token, json!("text")),
        ] {
            assert_eq!(reason(finish_login(&server, token, &response).await), REFUSED);
        }
        let long = json!({"id": "A".repeat(50_000)});
        assert_eq!(reason(finish_login(&server, token, &long).await), "INVALID_FIELD");
        let megabyte = json!({"id": "A".repeat(1 << 20)});
        let status = finish_login(&server, token, &megabyte).await.unwrap_err();
        assert_eq!(status.code(), Code::OutOfRange);
    }

    async fn an_expired_challenge_and_a_disabled_user_are_refused(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (mut authenticator, _) = user_with_passkey(&server, ADA).await;
        let begun = begin_login(&server, "").await;
        let response = authenticator.get(&begun.request_options_json);
        server.clock.advance(Duration::from_secs(301));
        let late = finish_login(&server, &begun.challenge_token, &response).await;
        assert_eq!(reason(late), REFUSED);
        passkey_login(&server, "", &mut authenticator).await.unwrap();
        database.execute("UPDATE users SET disabled_at = 1").await;
        assert_eq!(reason(passkey_login(&server, "", &mut authenticator).await), REFUSED);
    }

    async fn a_registration_with_a_foreign_origin_or_of_a_known_passkey_is_refused(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (mut authenticator, tokens) = user_with_passkey(&server, ADA).await;
        let access_token = tokens.access_token.as_str();
        let begun = begin_registration(&server, access_token).await.unwrap();
        let mut other = TestAuthenticator::new();
        let response = other.create(&begun.creation_options_json);
        let foreign = with_client_data(response.clone(), "origin", "https://evil.example");
        let finish = async |access_token: &str, token: &str, response: &Value| {
            finish_registration(&server, access_token, token, response, "").await
        };
        let token = begun.challenge_token.as_str();
        assert_eq!(reason(finish(access_token, token, &foreign).await), REFUSED);
        // A challenge is bound to its user.
        let bob = server.signed_in(BOB).await;
        assert_eq!(reason(finish(&bob.access_token, token, &response).await), REFUSED);
        finish(access_token, token, &response).await.unwrap();
        assert_eq!(reason(finish(access_token, token, &response).await), REFUSED);
        // The same passkey answers another challenge, and another user's: the response is not signed.
        let bobs = begin_registration(&server, &bob.access_token).await.unwrap();
        let options: Value = serde_json::from_str(&bobs.creation_options_json).unwrap();
        let copied = with_client_data(response, "challenge", options["challenge"].clone());
        let result = finish(&bob.access_token, &bobs.challenge_token, &copied).await;
        assert_eq!(reason(result), "FACTOR_EXISTS");
        passkey_login(&server, ADA, &mut authenticator).await.unwrap();
    }

    async fn wrong_answers_are_counted_like_wrong_passwords(database: TestDatabase) {
        let limit = [("COUNTERSIGN_ACCOUNT_FAILURE_LIMIT", "3")];
        let server = TestServer::start_with(&database, &limit).await;
        let (mut authenticator, _) = user_with_passkey(&server, ADA).await;
        for _ in 0..3 {
            let begun = begin_login(&server, "").await;
            let mut response = authenticator.get(&begun.request_options_json);
            response["response"]["signature"] = encode(&[0x30, 0x00]).into();
            let result = finish_login(&server, &begun.challenge_token, &response).await;
            assert_eq!(reason(result), REFUSED);
        }
        let result = passkey_login(&server, "", &mut authenticator).await;
        assert_eq!(reason(result), "ACCOUNT_THROTTLED");
        server.clock.advance(Duration::from_secs(2));
        passkey_login(&server, "", &mut authenticator).await.unwrap();
    }

    async fn a_ceremony_goes_over_two_replicas_and_a_change_of_the_master_key(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (mut authenticator, tokens) = user_with_passkey(&server, ADA).await;
        let begun = begin_login(&server, "").await;
        let registration = begin_registration(&server, &tokens.access_token).await.unwrap();
        let old = crate::support::server::MASTER_KEYS;
        let keys = format!("v2:{},{old}", "Q".repeat(43) + "=");
        let replica = server.replica(&[("COUNTERSIGN_MASTER_KEYS", keys.as_str())]).await;
        let response = authenticator.get(&begun.request_options_json);
        finish_login(&replica, &begun.challenge_token, &response).await.unwrap();
        let mut other = TestAuthenticator::new();
        let response = other.create(&registration.creation_options_json);
        let token = &registration.challenge_token;
        let finished = finish_registration(&replica, &tokens.access_token, token, &response, "");
        finished.await.unwrap();
        passkey_login(&replica, "", &mut other).await.unwrap();
    }
}

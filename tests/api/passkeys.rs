//! Passkeys: registration, login without a password, second factor, step-up; made and used by an authenticator of the tests.

use std::time::Duration;

use countersign::grpc::pb::{
    BeginPasskeyLoginRequest, BeginPasskeyLoginResponse, BeginPasskeyRegistrationRequest,
    BeginPasskeyRegistrationResponse, FactorKind, FinishPasskeyLoginRequest,
    FinishPasskeyLoginResponse, FinishPasskeyRegistrationRequest,
    FinishPasskeyRegistrationResponse, LoginChallenge, TokenPair, complete_login_request::Proof,
    reauthenticate_request::Proof as Again,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::support::{
    TestDatabase, TestServer, on_both_databases,
    operator::bearing,
    passkey::{TestAuthenticator, encode, with_client_data},
    reason,
};

const ADA: &str = "ada@example.org";
const BOB: &str = "bob@example.org";
const PHISHING_RESISTANT: &str = "urn:countersign:acr:phr";
const REFUSED: &str = "SECOND_FACTOR_INVALID";

/// What is changed in an answer.
type Change<'a> = &'a dyn Fn(&mut Value);

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
pub async fn add_passkey(
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

pub fn proof(response: &Value) -> Proof {
    Proof::PasskeyResponseJson(response.to_string())
}

pub fn again(response: &Value) -> Again {
    Again::PasskeyResponseJson(response.to_string())
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
            let listed = server.factors(&tokens.access_token).await.unwrap();
            assert_eq!((listed.len(), listed[0].label.as_str()), (1, "Key"));
            assert!(listed[0].last_use_time.is_some());
        }
    }

    async fn a_passkey_completes_a_login_by_password(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (mut ada, _) = user_with_passkey(&server, ADA).await;
        let (mut bob, _) = user_with_passkey(&server, BOB).await;
        let challenge = server.challenged(ADA).await;
        assert_eq!(challenge.factor_kinds, [FactorKind::Passkey as i32]);
        let response = ada.get(&challenge.request_options_json);
        let tokens = server.complete(&challenge, proof(&response)).await.unwrap().tokens.unwrap();
        assert_eq!(strength(&server, &tokens).await, methods(&["pwd", "swk", "mfa"]));
        // One use.
        let again = server.complete(&challenge, proof(&response)).await;
        assert_eq!(reason(again), REFUSED);
        // Another user's passkey, though it answers the challenge.
        let challenge = server.challenged(ADA).await;
        let mut options: Value = serde_json::from_str(&challenge.request_options_json).unwrap();
        options["allowCredentials"] = json!([]);
        let foreign = bob.get(&options.to_string());
        let stolen = server.complete(&challenge, proof(&foreign)).await;
        assert_eq!(reason(stolen), REFUSED);
        passkey_login(&server, BOB, &mut bob).await.unwrap();
        // A challenge of BeginPasskeyLogin does not stand for the password.
        let begun = begin_login(&server, ADA).await;
        let response = ada.get(&begun.request_options_json);
        let challenge = LoginChallenge { challenge_token: begun.challenge_token.clone(), ..challenge };
        assert_eq!(reason(server.complete(&challenge, proof(&response)).await), REFUSED);
        finish_login(&server, &begun.challenge_token, &response).await.unwrap();
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
        let stolen = server.reauthenticate(&tokens.access_token, token, again(&foreign)).await;
        assert_eq!(reason(stolen), REFUSED);
        passkey_login(&server, BOB, &mut bob).await.unwrap();
        let begun = begin_login(&server, "").await;
        let response = ada.get(&begun.request_options_json);
        let token = &begun.challenge_token;
        let renewed = server.reauthenticate(&tokens.access_token, token, again(&response)).await.unwrap();
        assert_eq!(renewed.session_id, tokens.session_id);
        let valid = server.validate(&renewed.access_token).await.unwrap();
        assert_eq!(valid.acr, PHISHING_RESISTANT);
        assert_eq!(valid.auth_time.unwrap().seconds, server.clock.now().seconds());
        begin_registration(&server, &renewed.access_token).await.unwrap();
        let twice = server.reauthenticate(&tokens.access_token, token, again(&response)).await;
        assert_eq!(reason(twice), REFUSED);
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
        let listed = server.factors(&tokens.access_token).await.unwrap();
        let labels: Vec<_> = listed.iter().map(|factor| factor.label.as_str()).collect();
        assert_eq!(labels, ["", "Second"]);
        for authenticator in [&mut first, &mut second] {
            passkey_login(&server, "", authenticator).await.unwrap();
        }
        server.remove_factor(&tokens.access_token, &listed[0].factor_id).await.unwrap();
        assert_eq!(reason(passkey_login(&server, "", &mut first).await), REFUSED);
        passkey_login(&server, ADA, &mut second).await.unwrap();
    }

    async fn of_concurrent_answers_to_one_challenge_one_succeeds(database: TestDatabase) {
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

    async fn a_signature_counter_that_decreases_is_refused(database: TestDatabase) {
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
        passkey_login(&server, "", &mut authenticator).await.unwrap();
    }

    async fn begin_passkey_login_does_not_reveal_accounts_or_passkeys(database: TestDatabase) {
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
        passkey_login(&server, ADA, &mut ada).await.unwrap();
    }

    async fn every_invalid_passkey_response_gets_the_same_reason(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (mut authenticator, tokens) = user_with_passkey(&server, ADA).await;
        let other = begin_login(&server, "").await;
        let registration = begin_registration(&server, &tokens.access_token).await.unwrap();
        for token in [other.challenge_token.as_str(), &registration.challenge_token, "", "csc_AAAA"] {
            let begun = begin_login(&server, "").await;
            let good = authenticator.get(&begun.request_options_json);
            assert_eq!(reason(finish_login(&server, token, &good).await), REFUSED, "{token}");
            finish_login(&server, &begun.challenge_token, &good).await.expect("the challenge alone was wrong");
        }
        let with = |member: &'static str, bytes: &'static [u8]| {
            move |answer: &mut Value| answer["response"][member] = encode(bytes).into()
        };
        let unknown = |answer: &mut Value| {
            answer["id"] = "AAAA".into();
            answer["rawId"] = "AAAA".into();
        };
        let changes: [(&str, Change<'_>); 5] = [
            ("an unknown passkey", &unknown),
            ("signature", &with("signature", &[0x30, 0x00])),
            ("authenticatorData", &with("authenticatorData", &[0; 37])),
            ("userHandle", &with("userHandle", &[0; 16])),
            ("no object", &|answer| *answer = json!("text")),
        ];
        // A wrong answer uses its challenge up, so that each has its own.
        for (what, change) in changes {
            let begun = begin_login(&server, "").await;
            let mut answer = authenticator.get(&begun.request_options_json);
            change(&mut answer);
            assert_eq!(reason(finish_login(&server, &begun.challenge_token, &answer).await), REFUSED, "{what}");
            passkey_login(&server, "", &mut authenticator).await.expect("an answer without that change is right");
        }
        let begun = begin_login(&server, "").await;
        let foreign = authenticator.get_on("https://evil.example", &begun.request_options_json);
        assert_eq!(reason(finish_login(&server, &begun.challenge_token, &foreign).await), REFUSED);
        passkey_login(&server, "", &mut authenticator).await.unwrap();
        let token = begin_login(&server, "").await.challenge_token;
        let long = json!({"id": "A".repeat(50_000)});
        assert_eq!(reason(finish_login(&server, &token, &long).await), "INVALID_FIELD");
        let megabyte = json!({"id": "A".repeat(1 << 20)});
        let status = finish_login(&server, &token, &megabyte).await.unwrap_err();
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

    async fn a_ceremony_can_finish_on_another_replica_after_a_change_of_the_master_key(database: TestDatabase) {
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

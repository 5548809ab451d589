//! Logins by passkey beside those by password: whose failures delay whom, which devices are known, what is audited.

use countersign::grpc::pb::FinishPasskeyLoginRequest;
use tonic::Status;

use crate::{
    new_devices::{NEW_DEVICE, told},
    passkeys::{begin_login, finish_login, passkey_login, user_with_passkey},
    support::{
        TestDatabase, TestServer, eventually,
        mailbox::mails,
        on_both_databases,
        passkey::{TestAuthenticator, encode},
        reason,
    },
};

const ADA: &str = "ada@example.org";
const WRONG: &str = "not the password of anyone";
const REFUSED: &str = "SECOND_FACTOR_INVALID";

/// A whole login by passkey that answers wrongly.
async fn fail(server: &TestServer, authenticator: &mut TestAuthenticator) -> String {
    let begun = begin_login(server, "").await;
    let mut response = authenticator.get(&begun.request_options_json);
    response["response"]["signature"] = encode(&[0x30, 0x00]).into();
    reason(finish_login(server, &begun.challenge_token, &response).await)
}

/// A whole login by passkey on the device with that token; returns the token to send next.
async fn login_on(
    server: &TestServer,
    authenticator: &mut TestAuthenticator,
    device_token: &str,
) -> Result<String, Status> {
    let begun = begin_login(server, "").await;
    let response = authenticator.get(&begun.request_options_json);
    let request = FinishPasskeyLoginRequest {
        challenge_token: begun.challenge_token,
        passkey_response_json: response.to_string(),
        device_token: device_token.to_owned(),
        ..FinishPasskeyLoginRequest::default()
    };
    let response = server.auth().finish_passkey_login(request).await?;
    Ok(response.into_inner().device_token)
}

on_both_databases! {
    async fn wrong_passwords_and_wrong_passkeys_do_not_delay_each_other(database: TestDatabase) {
        let limit = [("COUNTERSIGN_ACCOUNT_FAILURE_LIMIT", "3")];
        let server = TestServer::start_with(&database, &limit).await;
        let (mut authenticator, _) = user_with_passkey(&server, ADA).await;
        for _ in 0..3 {
            assert_eq!(reason(server.login_as(ADA, WRONG).await), "INVALID_CREDENTIALS");
        }
        assert_eq!(reason(server.login_whole(ADA, "").await), "ACCOUNT_THROTTLED");
        passkey_login(&server, "", &mut authenticator).await.unwrap();
        assert_eq!(database.count("login_failures WHERE failures = 3").await, 1, "a passkey forgives no passwords");

        let (mut bob, _) = user_with_passkey(&server, "bob@example.org").await;
        for _ in 0..3 {
            assert_eq!(fail(&server, &mut bob).await, REFUSED);
        }
        assert_eq!(fail(&server, &mut bob).await, "ACCOUNT_THROTTLED");
        server.challenged("bob@example.org").await;
    }

    async fn a_passkey_does_not_log_in_before_the_address_is_verified_if_verification_is_required(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (mut authenticator, _) = user_with_passkey(&server, ADA).await;
        let clock = server.clock.clone();
        server.stop().await;
        let verified = [("COUNTERSIGN_REGISTRATION", "verified")];
        let server = TestServer::try_start(&database, &verified, clock).await.unwrap();
        assert_eq!(reason(passkey_login(&server, "", &mut authenticator).await), REFUSED);
        database.execute("UPDATE users SET email_verified_at = 1").await;
        passkey_login(&server, "", &mut authenticator).await.unwrap();
    }

    async fn a_wrong_or_used_answer_and_a_delayed_one_are_audited(database: TestDatabase) {
        let limit = [("COUNTERSIGN_ACCOUNT_FAILURE_LIMIT", "2")];
        let server = TestServer::start_with(&database, &limit).await;
        let (mut authenticator, _) = user_with_passkey(&server, ADA).await;
        let audited = async |what: &str| {
            let events = format!("audit_events WHERE user_id IS NOT NULL AND {what}");
            eventually(what, async || database.count(&events).await == 1).await;
        };
        let begun = begin_login(&server, "").await;
        let response = authenticator.get(&begun.request_options_json);
        finish_login(&server, &begun.challenge_token, &response).await.unwrap();
        // Right, and used before.
        let again = finish_login(&server, &begun.challenge_token, &response).await;
        assert_eq!(reason(again), REFUSED);
        audited("kind = 'second_factor_failed'").await;
        assert_eq!(fail(&server, &mut authenticator).await, REFUSED);
        let both = "audit_events WHERE kind = 'second_factor_failed'";
        eventually("the wrong answer is audited", async || database.count(both).await == 2).await;
        assert_eq!(fail(&server, &mut authenticator).await, "ACCOUNT_THROTTLED");
        audited("kind = 'login_throttled'").await;
    }

    async fn the_user_gets_a_mail_about_a_passkey_login_on_a_new_device_and_none_on_a_known_one(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (mut authenticator, _) = user_with_passkey(&server, ADA).await;
        let known = login_on(&server, &mut authenticator, "").await.unwrap();
        assert_eq!(told(&database).await, 1);
        let mail = mails(&database).into_iter().find(|mail| mail.subject == NEW_DEVICE).unwrap();
        assert!(mail.body.contains("somebody logged in as ada@example.org"), "{mail:?}");
        let new = "audit_events WHERE kind = 'logged_in' AND details LIKE '%true%'";
        let before = database.count(new).await;
        let same = login_on(&server, &mut authenticator, &known).await.unwrap();
        assert_eq!(same, known, "it stays the same device");
        assert_eq!(database.count(new).await, before);
        // Beside a password, too.
        let by_password = server.login_whole(ADA, &known).await.unwrap();
        assert!(by_password.challenge.is_some());
        login_on(&server, &mut authenticator, "csd_forged").await.unwrap();
        assert_eq!(database.count(new).await, before + 1);
    }
}

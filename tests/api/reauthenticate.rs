//! Reauthenticate: the session stays, its `auth_time`, `amr` and `acr` are new; and the changes of factors that demand it.

use std::{collections::HashMap, time::Duration};

use countersign::grpc::pb::{ValidateTokenRequest, reauthenticate_request::Proof as Again};
use prost_types::Duration as PbDuration;
use tonic::Status;

use crate::support::{
    PASSWORD, TestDatabase, TestServer, factors::STEP, failure, on_both_databases, reason,
};

const ADA: &str = "ada@example.org";
const ONE_FACTOR: &str = "urn:countersign:acr:1";
const TWO_FACTORS: &str = "urn:countersign:acr:2";
const TEN_MINUTES: Duration = Duration::from_secs(600);

fn password() -> Again {
    Again::Password(PASSWORD.to_owned())
}

/// What a refusal asks for.
fn step_up(status: &Status) -> HashMap<String, String> {
    let failure = failure(status);
    assert_eq!(failure.reason, "STEP_UP_REQUIRED");
    failure.details.error_info().unwrap().metadata.clone()
}

async fn is_recent_and_strong(server: &TestServer, access_token: &str) -> bool {
    let request = ValidateTokenRequest {
        access_token: access_token.to_owned(),
        max_auth_age: Some(PbDuration {
            seconds: 60,
            nanos: 0,
        }),
        acceptable_acrs: vec![TWO_FACTORS.to_owned()],
        ..ValidateTokenRequest::default()
    };
    match server.auth().validate_token(request).await {
        Ok(_) => true,
        Err(status) => {
            step_up(&status);
            false
        }
    }
}

on_both_databases! {
    async fn reauthentication_with_a_password_updates_auth_time_and_keeps_the_refresh_token(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in(ADA).await;
        let tokens = server.refresh(&tokens.refresh_token).await.unwrap();
        server.clock.advance(TEN_MINUTES);
        let renewed = server.reauthenticate(&tokens.access_token, "", password()).await.unwrap();
        assert_eq!(renewed.session_id, tokens.session_id);
        assert_eq!(renewed.refresh_token, tokens.refresh_token);
        let now = server.clock.now().seconds();
        for access_token in [&renewed.access_token, &server.refresh(&renewed.refresh_token).await.unwrap().access_token] {
            let valid = server.validate(access_token).await.unwrap();
            assert_eq!((valid.auth_time.unwrap().seconds, valid.acr.as_str()), (now, ONE_FACTOR));
        }
        assert_eq!(database.count("audit_events WHERE kind = 'reauthenticated' AND session_id IS NOT NULL").await, 1);
        let wrong = Again::Password("not the password of anyone".to_owned());
        assert_eq!(reason(server.reauthenticate(&renewed.access_token, "", wrong).await), "INVALID_CREDENTIALS");
    }

    async fn reauthentication_with_a_code_updates_auth_time_and_acr(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in(ADA).await;
        let other = server.login(ADA).await.unwrap();
        let app = server.enroll(&tokens.access_token).await;
        server.clock.advance(TEN_MINUTES);
        // Logged in before there was a second factor.
        assert!(!is_recent_and_strong(&server, &other.access_token).await);
        let code = app.code(&server);
        let renewed = server.reauthenticate(&other.access_token, "", Again::TotpCode(code.clone())).await.unwrap();
        assert!(is_recent_and_strong(&server, &renewed.access_token).await);
        let valid = server.validate(&renewed.access_token).await.unwrap();
        assert_eq!(valid.amr, ["pwd", "otp", "mfa"]);
        assert_eq!(valid.session_id, other.session_id);
        assert_eq!(reason(server.reauthenticate(&other.access_token, "", Again::TotpCode(code)).await), "SECOND_FACTOR_INVALID");
        // A password alone says what it is worth.
        let weaker = server.reauthenticate(&renewed.access_token, "", password()).await.unwrap();
        assert_eq!(server.validate(&weaker.access_token).await.unwrap().acr, ONE_FACTOR);
    }

    async fn factors_change_only_after_a_recent_and_strong_authentication(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in(ADA).await;
        server.clock.advance(TEN_MINUTES);
        server.begin_totp(&tokens.access_token).await.unwrap();
        server.clock.advance(Duration::from_secs(1));
        let refused = server.begin_totp(&tokens.access_token).await.unwrap_err();
        assert_eq!(step_up(&refused), HashMap::from([("max_age".to_owned(), "600".to_owned())]));
        let tokens = server.reauthenticate(&tokens.access_token, "", password()).await.unwrap();
        let app = server.enroll(&tokens.access_token).await;
        server.clock.advance(Duration::from_secs(STEP));

        // With a stolen password and a stolen access token the factor stays.
        let stolen = server.reauthenticate(&tokens.access_token, "", password()).await.unwrap();
        for refused in [
            server.remove_factor(&stolen.access_token, &app.factor.factor_id).await.map(drop),
            server.new_recovery_codes(&stolen.access_token).await.map(drop),
            server.begin_totp(&stolen.access_token).await.map(drop),
        ] {
            let asked = step_up(&refused.unwrap_err());
            assert_eq!(asked["acr_values"], format!("{TWO_FACTORS} urn:countersign:acr:phr"));
            assert_eq!(asked["max_age"], "600");
        }
        let strong = server.reauthenticate(&stolen.access_token, "", Again::TotpCode(app.code(&server))).await.unwrap();
        server.new_recovery_codes(&strong.access_token).await.unwrap();
        server.clock.advance(Duration::from_secs(601));
        let old = server.remove_factor(&strong.access_token, &app.factor.factor_id).await.unwrap_err();
        step_up(&old);
        let strong = server.reauthenticate(&strong.access_token, "", Again::TotpCode(app.code(&server))).await.unwrap();
        server.remove_factor(&strong.access_token, &app.factor.factor_id).await.unwrap();
    }

    async fn a_session_that_has_ended_is_not_renewed(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in(ADA).await;
        server.logout(&tokens.refresh_token).await.unwrap();
        assert_eq!(reason(server.reauthenticate(&tokens.access_token, "", password()).await), "TOKEN_REVOKED");
        // Behind the server's back: its index does not know.
        let tokens = server.login(ADA).await.unwrap();
        database.execute(&format!("UPDATE sessions SET revoked_at = 1 WHERE id = '{}'", tokens.session_id)).await;
        assert_eq!(reason(server.reauthenticate(&tokens.access_token, "", password()).await), "TOKEN_REVOKED");
    }
}

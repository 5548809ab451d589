//! Login: right and wrong credentials, and delays after wrong passwords. Races and known devices: `throttle.rs`.

use std::time::Duration;

use tonic::Code;

use crate::support::{
    PASSWORD, TestDatabase, TestServer, failure, on_both_databases, reason, server::START,
};

const WRONG: &str = "not the password of anyone";

on_both_databases! {
    async fn a_login_opens_a_session_with_tokens_that_validate(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let user = server.register("ada@example.org").await.unwrap();
        let tokens = server.login("ADA@example.org").await.unwrap();
        assert_eq!(tokens.token_type, "Bearer");
        assert!(tokens.refresh_token.starts_with("csr_"));
        let lifetime = tokens.access_expire_time.unwrap().seconds - START.seconds();
        assert!((855..=900).contains(&lifetime), "{lifetime}");
        assert_eq!(tokens.refresh_expire_time.unwrap().seconds, START.seconds() + 7 * 24 * 3600);
        let claims = server.validate(&tokens.access_token).await.unwrap();
        assert_eq!(claims.user_id, user.user_id);
        assert_eq!(claims.session_id, tokens.session_id);
    }

    async fn an_unknown_address_a_wrong_password_and_a_disabled_account_get_the_same_answer(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        for email in ["ada@example.org", "bob@example.org"] {
            server.register(email).await.unwrap();
        }
        database.execute("UPDATE users SET disabled_at = 1 WHERE email_key = 'bob@example.org'").await;
        let mut answers = Vec::new();
        for (email, password) in [
            ("nobody@example.org", PASSWORD),
            ("ada@example.org", WRONG),
            ("bob@example.org", PASSWORD),
        ] {
            let status = server.login_as(email, password).await.unwrap_err();
            let failure = failure(&status);
            assert_eq!(failure.code, Code::Unauthenticated);
            answers.push((failure.reason, failure.message));
        }
        assert!(answers.iter().all(|answer| answer.0 == "INVALID_CREDENTIALS" && answer == &answers[0]));
    }

    async fn wrong_passwords_delay_an_account_and_a_success_resets_the_count(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[("COUNTERSIGN_ACCOUNT_FAILURE_LIMIT", "3")]).await;
        server.register("ada@example.org").await.unwrap();
        for email in ["ada@example.org", "nobody@example.org"] {
            for _ in 0..3 {
                assert_eq!(reason(server.login_as(email, WRONG).await), "INVALID_CREDENTIALS");
            }
            // From here on the right password is refused as well: the answer must not tell it from a wrong one.
            let status = server.login(email).await.unwrap_err();
            let failure = failure(&status);
            assert_eq!((failure.code, failure.reason.as_str()), (Code::ResourceExhausted, "ACCOUNT_THROTTLED"));
            let delay = failure.details.retry_info().unwrap().retry_delay.unwrap();
            assert_eq!(delay, Duration::from_secs(1));
        }
        server.clock.advance(Duration::from_secs(1));
        assert_eq!(reason(server.login_as("ada@example.org", WRONG).await), "INVALID_CREDENTIALS");
        server.clock.advance(Duration::from_secs(1));
        assert_eq!(reason(server.login("ada@example.org").await), "ACCOUNT_THROTTLED");
        server.clock.advance(Duration::from_secs(1));
        server.login("ada@example.org").await.unwrap();
        for _ in 0..3 {
            assert_eq!(reason(server.login_as("ada@example.org", WRONG).await), "INVALID_CREDENTIALS");
        }
    }

    async fn a_login_replaces_a_hash_made_with_outdated_parameters(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        server.register("ada@example.org").await.unwrap();
        server.stop().await;
        let stronger = [("COUNTERSIGN_ARGON2_MEMORY_KIB", "128")];
        let server = TestServer::start_with(&database, &stronger).await;
        server.login("ada@example.org").await.unwrap();
        // Were the old hash still there, this would change nothing and the login would fail.
        database.execute(
            "UPDATE users SET password_hash = 'gone' WHERE password_hash NOT LIKE '%m=128,%'",
        ).await;
        server.login("ada@example.org").await.unwrap();
    }

    async fn a_password_in_another_unicode_form_logs_in(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let mut client = server.auth();
        client.register(countersign::grpc::pb::RegisterRequest {
            email: "zoe@example.org".to_owned(),
            password: "Un caf\u{e9} tr\u{e8}s fort \u{e0} Qu\u{e9}bec".to_owned(),
            display_name: String::new(),
        }).await.unwrap();
        let decomposed = "Un cafe\u{301} tre\u{300}s fort a\u{300} Que\u{301}bec";
        server.login_as("zoe@example.org", decomposed).await.unwrap();
    }
}

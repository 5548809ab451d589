//! ValidateToken: the claims of valid tokens, and the reasons for which others are refused.

use std::time::Duration;

use countersign::grpc::pb::{TokenPair, ValidateTokenRequest};
use tonic::{Code, Request};

use crate::support::{TestDatabase, TestServer, failure, on_both_databases, reason, server::START};

/// How long an access token lives that was issued at the start.
fn lifetime(tokens: &TokenPair) -> Duration {
    let seconds = tokens.access_expire_time.unwrap().seconds - START.seconds();
    Duration::from_secs(seconds.unsigned_abs())
}

on_both_databases! {
    async fn a_valid_token_returns_its_claims(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[
            ("COUNTERSIGN_ISSUER", "https://auth.example.org"),
            ("COUNTERSIGN_AUDIENCES", "api,billing"),
        ]).await;
        let tokens = server.signed_in("ada@example.org").await;
        // Twice: the second answer comes from the cache and must be the same.
        let first = server.validate(&tokens.access_token).await.unwrap();
        let second = server.validate(&tokens.access_token).await.unwrap();
        assert_eq!(first, second);
        assert_eq!(first.issuer, "https://auth.example.org");
        assert_eq!(first.audiences, ["api", "billing"]);
        assert_eq!(first.issue_time.unwrap().seconds, START.seconds() - 5);
        assert_eq!(first.expire_time, tokens.access_expire_time);
        assert_eq!(first.revocation_as_of.unwrap().seconds, START.seconds());
    }

    async fn an_expired_token_has_another_reason_than_an_invalid_one(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        let lifetime = lifetime(&tokens);
        assert!((855..=900).contains(&lifetime.as_secs()), "{lifetime:?}");
        server.clock.advance(lifetime.saturating_sub(Duration::from_micros(1)));
        server.validate(&tokens.access_token).await.unwrap();
        server.clock.advance(Duration::from_micros(1));
        assert_eq!(reason(server.validate(&tokens.access_token).await), "TOKEN_EXPIRED");
        for garbage in ["garbage", "a.b.c", &tokens.refresh_token, &"x".repeat(1 << 15)] {
            let status = server.validate(garbage).await.unwrap_err();
            let failure = failure(&status);
            assert_eq!((failure.code, failure.reason.as_str()), (Code::Unauthenticated, "TOKEN_INVALID"));
        }
    }

    async fn leeway_extends_the_lifetime_of_a_token(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[("COUNTERSIGN_TOKEN_LEEWAY", "5s")]).await;
        let tokens = server.signed_in("ada@example.org").await;
        server.clock.advance(lifetime(&tokens) + Duration::from_secs(4));
        server.validate(&tokens.access_token).await.unwrap();
        server.clock.advance(Duration::from_secs(1));
        assert_eq!(reason(server.validate(&tokens.access_token).await), "TOKEN_EXPIRED");
    }

    async fn the_bearer_of_the_metadata_is_read_when_the_field_is_empty(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        let mut request = Request::new(ValidateTokenRequest::default());
        let bearer = format!("Bearer {}", tokens.access_token).parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
        server.auth().validate_token(request).await.unwrap();
        assert_eq!(reason(server.validate("").await), "TOKEN_MISSING");
        let mut basic = Request::new(ValidateTokenRequest::default());
        basic.metadata_mut().insert("authorization", "Basic YTpi".parse().unwrap());
        assert_eq!(reason(server.auth().validate_token(basic).await), "TOKEN_MISSING");
    }

    async fn audience_and_roles_are_demanded(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[("COUNTERSIGN_AUDIENCES", "api,billing")]).await;
        server.register("ada@example.org").await.unwrap();
        database.execute("UPDATE users SET roles = 'editor reader'").await;
        let tokens = server.login("ada@example.org").await.unwrap();
        let ask = async |audience: &str, roles: &[&str]| {
            server.auth().validate_token(ValidateTokenRequest {
                access_token: tokens.access_token.clone(),
                audience: audience.to_owned(),
                required_roles: roles.iter().map(|role| (*role).to_owned()).collect(),
                ..Default::default()
            }).await
        };
        ask("billing", &["reader", "editor"]).await.unwrap();
        ask("", &[]).await.unwrap();
        assert_eq!(reason(ask("payroll", &[]).await), "TOKEN_INVALID");
        let status = ask("api", &["reader", "admin"]).await.unwrap_err();
        let failure = failure(&status);
        assert_eq!((failure.code, failure.reason.as_str()), (Code::PermissionDenied, "INSUFFICIENT_ROLE"));
    }

    async fn a_token_of_another_issuer_is_invalid(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        let renamed = server.replica(&[("COUNTERSIGN_ISSUER", "https://elsewhere.example")]).await;
        assert_eq!(reason(renamed.validate(&tokens.access_token).await), "TOKEN_INVALID");
        let other_audience = server.replica(&[("COUNTERSIGN_AUDIENCES", "payroll")]).await;
        assert_eq!(reason(other_audience.validate(&tokens.access_token).await), "TOKEN_INVALID");
    }

    async fn validation_works_without_the_database(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        let gone = server.login("ada@example.org").await.unwrap();
        server.logout(&gone.refresh_token).await.unwrap();
        for table in ["audit_events", "revocations", "sessions", "users", "signing_keys"] {
            database.execute(&format!("ALTER TABLE {table} RENAME TO {table}_away")).await;
        }
        server.validate(&tokens.access_token).await.unwrap();
        assert_eq!(reason(server.validate(&gone.access_token).await), "TOKEN_REVOKED");
    }
}

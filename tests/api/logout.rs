//! Logout: the session ends at once, and only it.

use crate::support::{TestDatabase, TestServer, on_both_databases, reason};

on_both_databases! {
    async fn logout_revokes_the_session_and_its_access_tokens(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        let other = server.login("ada@example.org").await.unwrap();
        // Validated before, so that the answer after the logout cannot come from the cache.
        server.validate(&tokens.access_token).await.unwrap();
        server.logout(&tokens.refresh_token).await.unwrap();
        assert_eq!(reason(server.validate(&tokens.access_token).await), "TOKEN_REVOKED");
        assert_eq!(reason(server.refresh(&tokens.refresh_token).await), "SESSION_REVOKED");
        server.validate(&other.access_token).await.unwrap();
        server.refresh(&other.refresh_token).await.unwrap();
    }

    async fn logging_out_twice_or_with_an_older_token_succeeds(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let first = server.signed_in("ada@example.org").await;
        let second = server.refresh(&first.refresh_token).await.unwrap();
        server.logout(&first.refresh_token).await.unwrap();
        server.logout(&first.refresh_token).await.unwrap();
        server.logout(&second.refresh_token).await.unwrap();
        assert_eq!(reason(server.validate(&second.access_token).await), "TOKEN_REVOKED");
    }

    async fn a_logout_survives_a_restart(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        server.logout(&tokens.refresh_token).await.unwrap();
        server.stop().await;
        let server = TestServer::start(&database).await;
        assert_eq!(reason(server.validate(&tokens.access_token).await), "TOKEN_REVOKED");
        assert_eq!(reason(server.refresh(&tokens.refresh_token).await), "SESSION_REVOKED");
    }
}

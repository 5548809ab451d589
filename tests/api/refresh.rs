//! Refresh: the rules of rotation, and what ends a session.

use std::time::Duration;

use futures_util::future::join_all;
use tonic::Code;

use crate::support::{TestDatabase, TestServer, failure, on_both_databases, reason, server::START};

const GRACE: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(24 * 3600);

on_both_databases! {
    async fn each_refresh_returns_the_next_pair_of_the_same_session(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let first = server.signed_in("ada@example.org").await;
        let mut newest = first.clone();
        for _ in 0..5 {
            server.clock.advance(Duration::from_secs(60));
            let next = server.refresh(&newest.refresh_token).await.unwrap();
            assert_ne!(next.refresh_token, newest.refresh_token);
            assert_ne!(next.access_token, newest.access_token);
            assert_eq!(next.session_id, first.session_id);
            let claims = server.validate(&next.access_token).await.unwrap();
            assert_eq!(claims.session_id, first.session_id);
            newest = next;
        }
    }

    async fn a_lost_response_is_repeated_within_the_grace_period(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let first = server.signed_in("ada@example.org").await;
        let lost = server.refresh(&first.refresh_token).await.unwrap();
        server.clock.advance(GRACE);
        let again = server.refresh(&first.refresh_token).await.unwrap();
        assert_eq!(again.refresh_token, lost.refresh_token);
        assert_ne!(again.access_token, lost.access_token);
        server.validate(&again.access_token).await.unwrap();
        server.refresh(&again.refresh_token).await.unwrap();
    }

    async fn an_old_token_after_the_grace_ends_the_session_and_its_access_tokens(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let first = server.signed_in("ada@example.org").await;
        let other = server.login("ada@example.org").await.unwrap();
        let second = server.refresh(&first.refresh_token).await.unwrap();
        server.clock.advance(GRACE + Duration::from_micros(1));
        let status = server.refresh(&first.refresh_token).await.unwrap_err();
        let failure = failure(&status);
        assert_eq!((failure.code, failure.reason.as_str()), (Code::Unauthenticated, "REFRESH_TOKEN_REUSED"));
        assert_eq!(reason(server.validate(&second.access_token).await), "TOKEN_REVOKED");
        assert_eq!(reason(server.validate(&first.access_token).await), "TOKEN_REVOKED");
        assert_eq!(reason(server.refresh(&second.refresh_token).await), "SESSION_REVOKED");
        server.validate(&other.access_token).await.unwrap();
        server.refresh(&other.refresh_token).await.unwrap();
    }

    async fn a_token_two_generations_old_is_reuse_even_at_once(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let first = server.signed_in("ada@example.org").await;
        let second = server.refresh(&first.refresh_token).await.unwrap();
        server.refresh(&second.refresh_token).await.unwrap();
        assert_eq!(reason(server.refresh(&first.refresh_token).await), "REFRESH_TOKEN_REUSED");
    }

    async fn a_token_newer_than_its_session_in_a_restored_database_moves_the_session_forward(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let mut tokens = vec![server.signed_in("ada@example.org").await];
        for _ in 0..3 {
            let newest = &tokens.last().unwrap().refresh_token;
            tokens.push(server.refresh(newest).await.unwrap());
        }
        // A backup from after the first refresh was restored.
        database.execute("UPDATE sessions SET generation = 1").await;
        let racers = (0..6).map(|_| server.refresh(&tokens[3].refresh_token));
        let next: Vec<_> = join_all(racers).await.into_iter().map(Result::unwrap).collect();
        assert!(next.iter().all(|pair| pair.refresh_token == next[0].refresh_token));
        assert_eq!(database.count("sessions WHERE generation = 4").await, 1);
        server.validate(&next[0].access_token).await.unwrap();
        // The token that the restored database took for the newest is an old one again.
        assert_eq!(reason(server.refresh(&tokens[1].refresh_token).await), "REFRESH_TOKEN_REUSED");
        assert_eq!(reason(server.refresh(&next[0].refresh_token).await), "SESSION_REVOKED");
    }

    async fn a_token_newer_than_a_session_that_has_ended_is_refused(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let first = server.signed_in("ada@example.org").await;
        let second = server.refresh(&first.refresh_token).await.unwrap();
        database.execute("UPDATE sessions SET generation = 0, revoked_at = 1").await;
        assert_eq!(reason(server.refresh(&second.refresh_token).await), "SESSION_REVOKED");
        database.execute("UPDATE sessions SET revoked_at = NULL, idle_expires_at = 1").await;
        assert_eq!(reason(server.refresh(&second.refresh_token).await), "REFRESH_TOKEN_EXPIRED");
    }

    async fn a_session_that_a_replica_knows_to_be_revoked_is_revoked_again_after_a_restore(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        server.logout(&tokens.refresh_token).await.unwrap();
        // A backup from before the logout was restored.
        database.execute("UPDATE sessions SET revoked_at = NULL; DELETE FROM revocations").await;
        assert_eq!(reason(server.refresh(&tokens.refresh_token).await), "SESSION_REVOKED");
        assert_eq!(database.count("sessions WHERE revoked_at IS NOT NULL").await, 1);
        // Also for replicas that start now.
        let fresh = server.replica(&[]).await;
        assert_eq!(reason(fresh.validate(&tokens.access_token).await), "TOKEN_REVOKED");
        assert_eq!(reason(fresh.refresh(&tokens.refresh_token).await), "SESSION_REVOKED");
    }

    async fn a_session_missing_in_a_restored_database_is_revoked(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        database.execute("DELETE FROM sessions").await;
        assert_eq!(reason(server.refresh(&tokens.refresh_token).await), "SESSION_REVOKED");
        database.execute("DELETE FROM users").await;
        assert_eq!(reason(server.refresh(&tokens.refresh_token).await), "SESSION_REVOKED");
    }

    async fn a_session_ends_at_its_idle_limit_and_at_its_maximum_lifetime(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let idle = server.signed_in("ada@example.org").await;
        let mut busy = server.login("ada@example.org").await.unwrap();
        for _ in 0..5 {
            server.clock.advance(6 * DAY);
            busy = match server.refresh(&busy.refresh_token).await {
                Ok(next) => next,
                Err(status) => {
                    assert_eq!(failure(&status).reason, "REFRESH_TOKEN_EXPIRED");
                    assert_eq!(server.clock.now().since(START), 30 * DAY);
                    assert_eq!(reason(server.refresh(&idle.refresh_token).await), "REFRESH_TOKEN_EXPIRED");
                    return;
                }
            };
            // A refresh token never outlives its session.
            assert!(busy.refresh_expire_time.unwrap().seconds <= (START + 30 * DAY).seconds());
        }
        panic!("the session outlived its maximum lifetime");
    }

    async fn a_disabled_user_cannot_refresh(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        database.execute("UPDATE users SET disabled_at = 1").await;
        assert_eq!(reason(server.refresh(&tokens.refresh_token).await), "SESSION_REVOKED");
        database.execute("UPDATE users SET disabled_at = NULL").await;
        server.refresh(&tokens.refresh_token).await.unwrap();
    }

    async fn roles_granted_since_reach_the_next_access_token(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        assert!(server.validate(&tokens.access_token).await.unwrap().roles.is_empty());
        database.execute("UPDATE users SET roles = 'admin verifier'").await;
        let next = server.refresh(&tokens.refresh_token).await.unwrap();
        let claims = server.validate(&next.access_token).await.unwrap();
        assert_eq!(claims.roles, ["admin", "verifier"]);
    }

    async fn a_forged_token_is_refused_without_the_database(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        database.execute("ALTER TABLE sessions RENAME TO sessions_away").await;
        let mut forged = tokens.refresh_token.clone();
        let last = forged.pop().unwrap();
        forged.push(if last == 'A' { 'B' } else { 'A' });
        for token in ["", "csr_", "garbage", &forged, &tokens.access_token] {
            assert_eq!(reason(server.refresh(token).await), "REFRESH_TOKEN_INVALID");
            assert_eq!(reason(server.logout(token).await), "REFRESH_TOKEN_INVALID");
        }
        // An authentic token needs the table; a missing table is a fault of the database, not of the token.
        let status = server.refresh(&tokens.refresh_token).await.unwrap_err();
        let failure = failure(&status);
        assert_eq!((failure.code, failure.reason.as_str()), (Code::Unavailable, "DATABASE_UNAVAILABLE"));
    }
}

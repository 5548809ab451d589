//! Races: whoever comes at once gets one truth.

use std::collections::HashSet;

use futures_util::future::join_all;

use crate::support::{TestDatabase, TestServer, failure, on_both_databases};

on_both_databases! {
    async fn of_fifty_registrations_of_one_address_one_succeeds(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let outcomes = join_all((0..50).map(|_| server.register("ada@example.org"))).await;
        let (created, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
        assert_eq!(created.len(), 1);
        for outcome in refused {
            assert_eq!(failure(&outcome.unwrap_err()).reason, "EMAIL_TAKEN");
        }
        server.login("ada@example.org").await.unwrap();
    }

    async fn twenty_refreshes_of_one_token_get_one_successor(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let replica = server.replica(&[]).await;
        let mut tokens = server.signed_in("ada@example.org").await;
        for _ in 0..5 {
            let racers = (0..20).map(|i| {
                let server = if i % 2 == 0 { &server } else { &replica };
                server.refresh(&tokens.refresh_token)
            });
            let pairs: Vec<_> = join_all(racers).await.into_iter().map(Result::unwrap).collect();
            let successors: HashSet<_> = pairs.iter().map(|pair| &pair.refresh_token).collect();
            assert_eq!(successors.len(), 1, "one successor");
            for pair in &pairs {
                server.validate(&pair.access_token).await.unwrap();
            }
            tokens = pairs[0].clone();
        }
    }

    async fn a_logout_and_refreshes_at_once_end_with_the_session_dead(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        let refreshes = join_all((0..10).map(|_| server.refresh(&tokens.refresh_token)));
        let (logout, refreshes) = tokio::join!(server.logout(&tokens.refresh_token), refreshes);
        logout.unwrap();
        for outcome in refreshes {
            match outcome {
                Ok(pair) => {
                    let verdict = server.validate(&pair.access_token).await.unwrap_err();
                    assert_eq!(failure(&verdict).reason, "TOKEN_REVOKED");
                }
                Err(status) => assert_eq!(failure(&status).reason, "SESSION_REVOKED"),
            }
        }
    }
}

//! Races: whoever comes at once gets one truth.

use std::collections::HashSet;

use countersign::{clock::Clock, grpc::pb::TokenPair};
use futures_util::future::join_all;

use crate::support::{Kind, TestDatabase, TestServer, failure, on_both_databases, reason};

/// Longer than a busy machine takes for any of these: on the system clock a late retry is a reuse.
const GRACE: [(&str, &str); 1] = [("COUNTERSIGN_REFRESH_GRACE", "60s")];

on_both_databases! {
    async fn of_fifty_concurrent_registrations_of_one_address_one_succeeds(database: TestDatabase, clock: Clock) {
        let server = TestServer::start_at(&database, &GRACE, clock).await;
        let outcomes = join_all((0..50).map(|_| server.register("ada@example.org"))).await;
        let (created, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
        assert_eq!(created.len(), 1);
        for outcome in refused {
            assert_eq!(failure(&outcome.unwrap_err()).reason, "EMAIL_TAKEN");
        }
        server.login("ada@example.org").await.unwrap();
    }

    async fn twenty_concurrent_refreshes_of_one_token_get_one_successor(database: TestDatabase, clock: Clock) {
        let server = TestServer::start_at(&database, &GRACE, clock).await;
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

    async fn concurrent_logout_and_refreshes_leave_the_session_revoked(database: TestDatabase, clock: Clock) {
        let server = TestServer::start_at(&database, &GRACE, clock).await;
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

    async fn concurrent_refreshes_of_many_sessions_do_not_mix_up_tokens(database: TestDatabase, clock: Clock) {
        let server = TestServer::start_at(&database, &GRACE, clock).await;
        let mut sessions = sessions_of(&server, "ada@example.org", 100).await;
        for (i, session) in sessions.iter().enumerate() {
            match i % 10 {
                LOGGED_OUT => server.logout(&session.refresh_token).await.unwrap(),
                OUTDATED => {
                    let next = server.refresh(&session.refresh_token).await.unwrap();
                    server.refresh(&next.refresh_token).await.unwrap();
                }
                _ => {}
            }
        }
        for round in 0..3 {
            let refreshes = sessions.iter().map(|session| server.refresh(&session.refresh_token));
            // Each of them twice, as a client does that lost patience.
            let (outcomes, again) = tokio::join!(join_all(refreshes.clone()), join_all(refreshes));
            for (i, (first, second)) in outcomes.into_iter().zip(again).enumerate() {
                match (first, second) {
                    (Ok(first), Ok(second)) => {
                        assert!(i % 10 != LOGGED_OUT && i % 10 != OUTDATED, "session {i}");
                        assert_eq!(first.refresh_token, second.refresh_token, "session {i}");
                        assert_eq!(first.session_id, sessions[i].session_id);
                        let claims = server.validate(&first.access_token).await.unwrap();
                        assert_eq!(claims.session_id, first.session_id);
                        sessions[i] = first;
                    }
                    (Err(first), Err(second)) => {
                        assert!(i % 10 == LOGGED_OUT || i % 10 == OUTDATED, "session {i}");
                        let reasons = [failure(&first).reason, failure(&second).reason];
                        let is_found_out = i % 10 == OUTDATED && round == 0;
                        let (reused, rest): (Vec<_>, Vec<_>) =
                            reasons.into_iter().partition(|reason| reason == "REFRESH_TOKEN_REUSED");
                        assert_eq!(!reused.is_empty(), is_found_out, "session {i}");
                        assert!(rest.iter().all(|reason| reason == "SESSION_REVOKED"), "session {i}: {rest:?}");
                    }
                    outcome => panic!("session {i}: {outcome:?}"),
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_session_row_delays_only_refreshes_of_that_session() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let server = TestServer::start(&database).await;
    let sessions = sessions_of(&server, "ada@example.org", 30).await;
    let (held, others) = sessions.split_last().unwrap();
    let mut client = database.client().await;
    let holder = client.transaction().await.unwrap();
    let lock = "SELECT 1 FROM sessions WHERE id = $1 FOR UPDATE";
    holder.execute(lock, &[&held.session_id]).await.unwrap();

    let refreshes = sessions
        .iter()
        .map(|session| server.refresh(&session.refresh_token));
    let mut outcomes = join_all(refreshes).await;
    let of_the_held = outcomes.pop().unwrap();
    assert_eq!(reason(of_the_held), "DATABASE_UNAVAILABLE");
    for (session, outcome) in others.iter().zip(outcomes) {
        assert_eq!(outcome.unwrap().session_id, session.session_id);
    }
    holder.rollback().await.unwrap();
    server.refresh(&held.refresh_token).await.unwrap();
}

/// Registers a user and opens that many sessions, ten at a time.
async fn sessions_of(server: &TestServer, email: &str, count: usize) -> Vec<TokenPair> {
    server.register(email).await.unwrap();
    let mut sessions = Vec::new();
    while sessions.len() < count {
        let at_once = 10.min(count - sessions.len());
        for login in join_all((0..at_once).map(|_| server.login(email))).await {
            sessions.push(login.unwrap());
        }
    }
    sessions
}

/// Which of the sessions, by their last digit, have been logged out.
const LOGGED_OUT: usize = 7;
/// Which of them come with a token from before the last two rotations.
const OUTDATED: usize = 8;

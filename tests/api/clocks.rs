//! Clocks that differ or were wrong: what one of them wrote must not refuse anybody by another.

use std::time::Duration;

use countersign::clock::{Clock, ManualClock};

use crate::{
    account::Account,
    keys::{published, rotate},
    support::{
        Kind, PASSWORD, TestDatabase, TestServer, eventually, on_both_databases, reason,
        server::START,
    },
};

const ADA: &str = "ada@example.org";
const NEW_PASSWORD: &str = "an engine that dreams of looms";
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

async fn server_at(database: &TestDatabase, ahead: Duration) -> TestServer {
    let clock = ManualClock::new(START + ahead);
    TestServer::start_at(database, &[], Clock::Manual(clock)).await
}

on_both_databases! {
    async fn sessions_opened_after_a_wrong_clock_ended_all_sessions_are_valid(database: TestDatabase) {
        let wrong = server_at(&database, YEAR).await;
        let before = wrong.signed_in(ADA).await;
        Account(&wrong, &before.access_token).revoke_all(false).await.unwrap();
        wrong.stop().await;

        let right = server_at(&database, Duration::ZERO).await;
        let tokens = right.login(ADA).await.unwrap();
        right.validate(&tokens.access_token).await.unwrap();
        let refreshed = right.refresh(&tokens.refresh_token).await.unwrap();
        right.validate(&refreshed.access_token).await.unwrap();
        let changed = Account(&right, &refreshed.access_token).change_password(PASSWORD, NEW_PASSWORD).await.unwrap();
        right.validate(&changed.access_token).await.unwrap();
        // And a session that ended by the right clock has ended.
        Account(&right, &changed.access_token).revoke_all(false).await.unwrap();
        assert_eq!(reason(right.validate(&changed.access_token).await), "TOKEN_REVOKED");
        assert_eq!(reason(right.refresh(&changed.refresh_token).await), "SESSION_REVOKED");
        let last = right.login_as(ADA, NEW_PASSWORD).await.unwrap();
        right.validate(&last.access_token).await.unwrap();
    }

    async fn a_rotation_by_a_wrong_clock_does_not_stop_later_rotations(database: TestDatabase) {
        server_at(&database, Duration::ZERO).await.stop().await;
        let wrong = server_at(&database, YEAR).await;
        let far = rotate(&wrong, false).await;
        assert!(far.activates_at > START + YEAR);
        wrong.stop().await;

        let right = server_at(&database, Duration::ZERO).await;
        let tokens = right.signed_in(ADA).await;
        let next = rotate(&right, false).await;
        assert!(next.activates_at < START + Duration::from_secs(3600), "{next:?}");
        assert_eq!(rotate(&right, false).await.kid, next.kid, "one successor is enough");
        right.clock.advance(Duration::from_secs(3600));
        eventually("the successor signs, and the key of the wrong clock is gone", async || {
            published(&right).first() == Some(&next.kid) && !published(&right).contains(&far.kid)
        }).await;
        right.refresh(&tokens.refresh_token).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_clock_is_wrong_dates_signing_keys_by_that_of_the_database() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let right = TestServer::start_at(&database, &[], Clock::System).await;
    let tokens = right.signed_in(ADA).await;
    let wrong = TestServer::start_at(&database, &[], Clock::SystemAhead(YEAR)).await;
    let soon = Clock::System.now() + Duration::from_secs(3600);
    let next = rotate(&wrong, false).await;
    assert!(next.activates_at < soon, "{next:?}");
    assert_eq!(rotate(&right, false).await.kid, next.kid);
    // It deletes no key with which the others sign: by its own clock that was superseded a year ago. It has looked at all keys
    // once one is gone that is of no use by any clock; nobody else is there to delete it.
    right.stop().await;
    let useless = "INSERT INTO signing_keys
         SELECT 'useless', ordinal + 1000, algorithm, sealed_private_key, sealed_by, 1, 1, 1 FROM signing_keys LIMIT 1";
    database.execute(useless).await;
    eventually("the wrong replica has deleted a useless key", async || {
        database.count("signing_keys WHERE kid = 'useless'").await == 0
    })
    .await;
    assert_eq!(database.count("signing_keys").await, 2);
    let right = TestServer::start_at(&database, &[], Clock::System).await;
    right.validate(&tokens.access_token).await.unwrap();
    let emergency = rotate(&wrong, true).await;
    assert!(emergency.activates_at < soon, "{emergency:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_at_a_replica_whose_clock_is_ahead_is_not_reuse() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let settings = [("COUNTERSIGN_REFRESH_GRACE", "5s")];
    let here = TestServer::start_at(&database, &settings, Clock::System).await;
    let ahead = Clock::SystemAhead(Duration::from_secs(600));
    let ahead = TestServer::start_at(&database, &settings, ahead).await;
    let first = here.signed_in(ADA).await;
    let second = here.refresh(&first.refresh_token).await.unwrap();
    let retried = ahead.refresh(&first.refresh_token).await.unwrap();
    assert_eq!(retried.refresh_token, second.refresh_token);
    // The grace ends there as well.
    eventually("the first token is reused", async || {
        let answer = ahead.refresh(&first.refresh_token).await;
        answer.is_err() && reason(answer) == "REFRESH_TOKEN_REUSED"
    })
    .await;
    let answer = here.refresh(&second.refresh_token).await;
    assert_eq!(reason(answer), "SESSION_REVOKED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_on_a_replica_that_is_behind_is_not_revoked_with_earlier_sessions() {
    for ahead in [
        Duration::from_millis(300),
        Duration::from_secs(3),
        Duration::from_secs(600),
    ] {
        let database = TestDatabase::create(Kind::Postgres).await;
        let here = server_at(&database, ahead).await;
        let behind = server_at(&database, Duration::ZERO).await;
        let before = here.signed_in(ADA).await;
        Account(&here, &before.access_token)
            .revoke_all(false)
            .await
            .unwrap();
        let after = behind.login(ADA).await.unwrap();
        let refreshed = behind.refresh(&after.refresh_token).await.unwrap();
        eventually("the other replica knows of the end", async || {
            behind.validate(&before.access_token).await.is_err()
        })
        .await;
        for server in [&here, &behind] {
            for tokens in [&after, &refreshed] {
                server.validate(&tokens.access_token).await.unwrap();
            }
            let answer = server.validate(&before.access_token).await;
            assert_eq!(reason(answer), "TOKEN_REVOKED", "{ahead:?}");
        }
    }
}

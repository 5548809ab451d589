//! A revocation on one replica is known on every other: by a notification within a second, by polling when
//! that is lost.

use std::time::Duration;

use countersign::{
    auth::{RequestContext, Users},
    clock::{Clock, ManualClock},
    domain::UserId,
    store::Store,
};

use tokio::time::sleep;

pub use crate::support::lateness::Lateness;
use crate::support::{
    Kind, PATIENCE, TestDatabase, TestServer, eventually, on_both_databases,
    proxy::Proxy,
    reason,
    server::{START, test_variables},
};

/// With these a replica on PostgreSQL learns of a revocation by a notification or not in time: the tests do not wait
/// for the poll.
const NO_POLL: [(&str, &str); 2] = [
    ("COUNTERSIGN_REVOCATION_POLL_INTERVAL", "10m"),
    ("COUNTERSIGN_REVOCATION_MAX_STALENESS", "1h"),
];

/// Administration without a server, as by the command line.
pub fn administration(server: &TestServer) -> Users {
    let variables = test_variables(&server.database, &[]);
    let config = countersign::config::Config::from_vars(variables).unwrap();
    Users::standalone(
        Store::open(&config.database).unwrap(),
        Clock::Manual(server.clock.clone()),
        config.tokens.access_ttl,
        config.tokens.leeway,
    )
}

/// Within this time a revocation is known on every replica.
const PROMISED: Duration = Duration::from_secs(1);

impl Lateness {
    /// The promise, for a machine that is as busy as this one has been.
    pub fn bound(&self) -> Duration {
        PROMISED + self.allowance()
    }

    /// Demands that so many revocations were each known everywhere in time.
    pub fn demand_in_time(&self, what: &str, latencies: &[Duration], count: usize) {
        let bound = self.bound();
        let in_time = latencies.iter().filter(|took| **took < bound).count();
        let longest = latencies.iter().max();
        println!(
            "{what}: {in_time} of {count} in time, the longest after {longest:?}, bound {bound:?}"
        );
        assert_eq!(
            in_time, count,
            "{what}: {latencies:?}, where {bound:?} is allowed"
        );
    }
}

async fn user_id(server: &TestServer, access_token: &str) -> UserId {
    let valid = server.validate(access_token).await.unwrap();
    valid.user_id.parse().unwrap()
}

/// Waits until `server` knows that a token is revoked; any other refusal is a failure.
async fn learns(server: &TestServer, access_token: &str, what: &str) -> Duration {
    eventually(what, async || match server.validate(access_token).await {
        Ok(_) => false,
        Err(status) => {
            assert_eq!(reason::<()>(Err(status)), "TOKEN_REVOKED");
            true
        }
    })
    .await
}

on_both_databases! {
    async fn each_kind_of_revocation_reaches_the_other_replica(database: TestDatabase) {
        let writer = TestServer::start_with(&database, &NO_POLL).await;
        let reader = writer.replica(&NO_POLL).await;
        let context = RequestContext::default();
        let admin = administration(&writer);
        let lateness = Lateness::measure();
        let mut slowest = Duration::ZERO;
        for round in 0..5 {
            let session = writer.signed_in(&format!("ada{round}@example.org")).await;
            let other = writer.login(&format!("ada{round}@example.org")).await.unwrap();
            let third = writer.signed_in(&format!("eve{round}@example.org")).await;
            for tokens in [&session, &other, &third] {
                reader.validate(&tokens.access_token).await.unwrap();
            }
            writer.logout(&session.refresh_token).await.unwrap();
            slowest = slowest.max(learns(&reader, &session.access_token, "a session").await);
            reader.validate(&other.access_token).await.unwrap();

            let ada = user_id(&reader, &other.access_token).await;
            assert_eq!(admin.revoke_user_sessions(ada, None, &context).await.unwrap().outcome, 1);
            slowest = slowest.max(learns(&reader, &other.access_token, "a user's sessions").await);
            learns(&writer, &other.access_token, "a user's sessions, here").await;

            let eve = user_id(&reader, &third.access_token).await;
            admin.disable_user(eve, &context).await.unwrap();
            slowest = slowest.max(learns(&reader, &third.access_token, "a disabled user").await);
        }
        let bound = lateness.bound();
        println!("revocation latency on {:?}: at most {slowest:?} of 15, bound {bound:?}", database.kind);
        assert!(slowest < bound, "{slowest:?}, where {bound:?} is allowed");
    }

    async fn a_row_that_cannot_be_read_does_not_hide_the_others(database: TestDatabase) {
        let writer = TestServer::start_with(&database, &NO_POLL).await;
        let reader = writer.replica(&NO_POLL).await;
        let tokens = writer.signed_in("ada@example.org").await;
        database.execute(&format!(
            "INSERT INTO revocations (id, kind, subject, not_before, created_at, expires_at, position) VALUES
             ('a', 'planet', 'mars', 0, 0, {0}, {0}), ('b', 'session', 'no id', 0, 0, {0}, {0})",
            i64::MAX / 2
        )).await;
        writer.logout(&tokens.refresh_token).await.unwrap();
        learns(&reader, &tokens.access_token, "a session").await;
        // Also for a replica that starts now.
        let fresh = writer.replica(&[]).await;
        assert_eq!(reason(fresh.validate(&tokens.access_token).await), "TOKEN_REVOKED");
    }

    async fn a_clock_set_back_on_either_replica_hides_no_revocation(database: TestDatabase) {
        let writer = TestServer::start_with(&database, &NO_POLL).await;
        let clock = ManualClock::new(START);
        let reader = TestServer::try_start(&database, &NO_POLL, clock).await.unwrap();
        let hour = Duration::from_secs(3600);
        let mut tokens = Vec::new();
        for number in 0..3 {
            tokens.push(writer.signed_in(&format!("ada{number}@example.org")).await);
        }
        writer.logout(&tokens[0].refresh_token).await.unwrap();
        learns(&reader, &tokens[0].access_token, "before").await;

        // The revocation would seem expired, had the writer's clock alone a say in it.
        writer.clock.set(START - hour);
        writer.logout(&tokens[1].refresh_token).await.unwrap();
        learns(&reader, &tokens[1].access_token, "from a writer an hour behind").await;
        let fresh = TestServer::try_start(&database, &NO_POLL, ManualClock::new(START)).await.unwrap();
        assert_eq!(reason(fresh.validate(&tokens[1].access_token).await), "TOKEN_REVOKED");

        writer.clock.set(START);
        reader.clock.set(START - hour);
        writer.logout(&tokens[2].refresh_token).await.unwrap();
        learns(&reader, &tokens[2].access_token, "by a reader an hour behind").await;
    }
}

async fn two_replicas(variables: &[(&str, &str)]) -> (TestDatabase, TestServer, TestServer) {
    let database = TestDatabase::create(Kind::Postgres).await;
    let writer = TestServer::start(&database).await;
    let reader = writer.replica(variables).await;
    (database, writer, reader)
}

/// The number of connections that listen for changes.
async fn listeners(client: &tokio_postgres::Client) -> i64 {
    let row = client
        .query_one(
            "SELECT count(*) FROM pg_stat_activity
             WHERE application_name = 'countersign-listener' AND datname = current_database()",
            &[],
        )
        .await;
    row.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_garbled_notification_is_harmless() {
    let (database, writer, reader) = two_replicas(&NO_POLL).await;
    let client = database.client().await;
    for payload in [
        "garbage",
        "{\"position\":",
        "\u{1}\u{7f}\u{fffd}",
        &"9".repeat(7_999),
    ] {
        let sql = "SELECT pg_notify('countersign_changes', $1)";
        client.execute(sql, &[&payload]).await.unwrap();
    }
    let tokens = writer.signed_in("ada@example.org").await;
    reader.validate(&tokens.access_token).await.unwrap();
    writer.logout(&tokens.refresh_token).await.unwrap();
    learns(&reader, &tokens.access_token, "a session, after garbage").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listening_connection_that_is_terminated_reconnects() {
    let (database, writer, reader) = two_replicas(&NO_POLL).await;
    let client = database.client().await;
    for round in 0..8 {
        eventually("both replicas listen", async || {
            listeners(&client).await == 2
        })
        .await;
        let tokens = writer.signed_in(&format!("ada{round}@example.org")).await;
        reader.validate(&tokens.access_token).await.unwrap();
        client
            .execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE application_name = 'countersign-listener' AND datname = current_database()",
                &[],
            )
            .await
            .unwrap();
        // While no connection listens: the notification is lost, and the revocation is found after the reconnection.
        writer.logout(&tokens.refresh_token).await.unwrap();
        let waited = learns(
            &reader,
            &tokens.access_token,
            "a session, after a lost connection",
        )
        .await;
        println!("after lost connection {round}: {waited:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_lost_notification_the_next_poll_reads_the_change() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let proxy = Proxy::before(&database.url).await;
    proxy.silence_listeners();
    let writer = TestServer::start(&database).await;
    let through_proxy = [
        ("COUNTERSIGN_DATABASE_URL", proxy.url.as_str()),
        ("COUNTERSIGN_REVOCATION_POLL_INTERVAL", "2s"),
    ];
    let reader = writer.replica(&through_proxy).await;
    let tokens = writer.signed_in("ada@example.org").await;
    reader.validate(&tokens.access_token).await.unwrap();
    writer.logout(&tokens.refresh_token).await.unwrap();
    let waited = learns(&reader, &tokens.access_token, "a session, by polling").await;
    println!("polling every 2 s: {waited:?}");
    assert!(waited < Duration::from_secs(6), "{waited:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_listening_connection_is_replaced() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let proxy = Proxy::before(&database.url).await;
    let writer = TestServer::start(&database).await;
    let mut variables = NO_POLL.to_vec();
    variables.push(("COUNTERSIGN_DATABASE_URL", &proxy.url));
    let reader = writer.replica(&variables).await;
    let client = database.client().await;
    eventually("both replicas listen", async || {
        listeners(&client).await == 2
    })
    .await;
    // Past the read that follows the beginning, which would find what the notification was for.
    sleep(Duration::from_secs(1)).await;
    let tokens = writer.signed_in("ada@example.org").await;
    proxy.silence_listeners();
    writer.logout(&tokens.refresh_token).await.unwrap();
    eventually("the notification is lost", async || proxy.swallowed() > 0).await;
    // The connection stays open, and nothing comes through it.
    proxy.mend();
    let waited = learns(&reader, &tokens.access_token, "a session, after silence").await;
    println!("after silence: {waited:?}");
    assert!(waited < PATIENCE);
}

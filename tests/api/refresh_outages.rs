//! A client that retries through an outage keeps its session, and reuse is still detected.

use std::{sync::Arc, time::Duration};

use countersign::grpc::pb::TokenPair;
use diesel::SqliteConnection;
use futures_util::future::join_all;
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

use crate::support::{
    Kind, TestDatabase, TestServer, cluster::Cluster, database::hold_sqlite_write_lock, eventually,
    on_both_databases, proxy::Proxy, reason,
};

const GRACE: Duration = Duration::from_secs(10);
/// How long clients may take to come back after an outage.
const RECOVERY: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
/// Twice the time between two heartbeats, by which a server notices that it cannot write.
const NOTICED: Duration = Duration::from_secs(4);

/// A database that can be taken away from a server and given back.
enum Outage {
    /// PostgreSQL: the network in between is cut.
    Network(Proxy),
    /// PostgreSQL: it does what it is told, and its answers are lost.
    Answers(Proxy),
    /// SQLite: another program holds the write lock.
    Lock(Option<SqliteConnection>),
}

impl Outage {
    async fn server(database: &TestDatabase) -> (TestServer, Self) {
        match database.kind {
            Kind::Sqlite => (TestServer::start(database).await, Self::Lock(None)),
            Kind::Postgres => {
                let proxy = Proxy::before(&database.url).await;
                let url = [("COUNTERSIGN_DATABASE_URL", proxy.url.as_str())];
                let server = TestServer::start_with(database, &url).await;
                (server, Self::Network(proxy))
            }
        }
    }

    fn begin(&mut self, database: &TestDatabase) {
        match self {
            Self::Network(proxy) => proxy.cut(),
            Self::Answers(proxy) => proxy.silence_answers(),
            Self::Lock(lock) => *lock = Some(hold_sqlite_write_lock(&database.sqlite_path())),
        }
    }

    fn end(&mut self) {
        match self {
            Self::Network(proxy) | Self::Answers(proxy) => proxy.mend(),
            Self::Lock(lock) => drop(lock.take()),
        }
    }

    /// An outage of that length, in which a client retries with `refresh_token`.
    async fn last(&mut self, length: Duration, server: &TestServer, refresh_token: &str) {
        self.begin(&server.database);
        let began = Instant::now();
        while began.elapsed() < NOTICED {
            let refused = reason(server.refresh(refresh_token).await);
            assert_eq!(refused, "DATABASE_UNAVAILABLE");
            sleep(Duration::from_millis(200)).await;
        }
        server.clock.advance(length);
        // Pings come every second and take up to 1.8 s. One that begins after the clock has moved must fail before the
        // outage ends; otherwise one from before may succeed, and the outage seems to have ended when that one began.
        sleep(Duration::from_secs(4)).await;
        let refused = reason(server.refresh(refresh_token).await);
        assert_eq!(refused, "DATABASE_UNAVAILABLE");
        self.end();
        eventually("the database is back", async || {
            server.login("ada@example.org").await.is_ok()
        })
        .await;
    }
}

/// A session whose first token was rotated, and the answer to that, which is taken for lost.
async fn lost_answer(server: &TestServer) -> (TokenPair, TokenPair) {
    let first = server.signed_in("ada@example.org").await;
    let lost = server.refresh(&first.refresh_token).await.unwrap();
    (first, lost)
}

on_both_databases! {
    async fn a_client_that_retries_through_an_outage_keeps_its_session(database: TestDatabase) {
        let (server, mut outage) = Outage::server(&database).await;
        let (first, lost) = lost_answer(&server).await;
        outage.last(Duration::from_secs(200), &server, &first.refresh_token).await;
        // Its own back-off has grown meanwhile.
        server.clock.advance(Duration::from_secs(40));
        let again = server.refresh(&first.refresh_token).await.unwrap();
        assert_eq!(again.refresh_token, lost.refresh_token);
        server.refresh(&again.refresh_token).await.unwrap();
        assert_eq!(reason(server.refresh(&first.refresh_token).await), "REFRESH_TOKEN_REUSED");
    }

    async fn reuse_is_detected_after_an_outage_and_a_minute(database: TestDatabase) {
        let (server, mut outage) = Outage::server(&database).await;
        let (first, lost) = lost_answer(&server).await;
        outage.last(Duration::from_secs(100), &server, &first.refresh_token).await;
        server.clock.advance(RECOVERY + GRACE + SECOND);
        assert_eq!(reason(server.refresh(&first.refresh_token).await), "REFRESH_TOKEN_REUSED");
        assert_eq!(reason(server.refresh(&lost.refresh_token).await), "SESSION_REVOKED");
    }

    async fn an_outage_extends_the_grace_period_by_at_most_five_minutes(database: TestDatabase) {
        let (server, mut outage) = Outage::server(&database).await;
        let (first, _) = lost_answer(&server).await;
        let five_minutes = Duration::from_secs(300);
        outage.last(five_minutes + GRACE + SECOND, &server, &first.refresh_token).await;
        assert_eq!(reason(server.refresh(&first.refresh_token).await), "REFRESH_TOKEN_REUSED");
    }

    async fn an_outage_that_was_over_at_the_rotation_delays_no_detection_of_reuse(database: TestDatabase) {
        let (server, mut outage) = Outage::server(&database).await;
        let (first, lost) = lost_answer(&server).await;
        outage.last(Duration::from_secs(5), &server, &first.refresh_token).await;
        let next = server.refresh(&lost.refresh_token).await.unwrap();
        server.clock.advance(GRACE + Duration::from_micros(1));
        assert_eq!(reason(server.refresh(&lost.refresh_token).await), "REFRESH_TOKEN_REUSED");
        assert_eq!(reason(server.validate(&next.access_token).await), "TOKEN_REVOKED");
    }

    async fn time_in_which_the_server_was_not_running_does_not_count(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (first, lost) = lost_answer(&server).await;
        let clock = server.clock.clone();
        server.stop().await;
        clock.advance(Duration::from_secs(100));
        let server = TestServer::try_start(&database, &[], clock).await.unwrap();
        server.clock.advance(GRACE * 2);
        let again = server.refresh(&first.refresh_token).await.unwrap();
        assert_eq!(again.refresh_token, lost.refresh_token);
        server.clock.advance(RECOVERY);
        assert_eq!(reason(server.refresh(&first.refresh_token).await), "REFRESH_TOKEN_REUSED");
    }
}

/// The session is rotated, and the answer is lost on the way from the database: neither server nor client knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_retries_keeps_its_session_although_a_frozen_database_has_rotated_it() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let proxy = Proxy::before(&database.url).await;
    let one_connection = [
        ("COUNTERSIGN_DATABASE_URL", proxy.url.as_str()),
        ("COUNTERSIGN_DATABASE_POOL_SIZE", "1"),
    ];
    let server = TestServer::start_with(&database, &one_connection).await;
    let mut tokens = server.signed_in("ada@example.org").await;
    let mut outage = Outage::Answers(proxy);
    // A ping may come first and lose the connection.
    for generation in 1.. {
        // A statement that is prepared already needs no answer to be executed.
        eventually("the session is refreshed", async || {
            let refreshed = server.refresh(&tokens.refresh_token).await;
            refreshed.map(|next| tokens = next).is_ok()
        })
        .await;
        outage.begin(&database);
        let refused = reason(server.refresh(&tokens.refresh_token).await);
        assert_eq!(refused, "DATABASE_UNAVAILABLE");
        let rotated = format!("sessions WHERE generation = {}", generation + 1);
        if database.count(&rotated).await == 1 {
            break;
        }
        outage.end();
    }
    let lasts = outage.last(Duration::from_secs(200), &server, &tokens.refresh_token);
    lasts.await;
    server.clock.advance(Duration::from_secs(40));
    let next = server.refresh(&tokens.refresh_token).await.unwrap();
    assert_eq!(next.session_id, tokens.session_id);
    server.refresh(&next.refresh_token).await.unwrap();
    let refused = reason(server.refresh(&tokens.refresh_token).await);
    assert_eq!(refused, "REFRESH_TOKEN_REUSED");
}

/// Waits until both replicas have written a heartbeat at the time that the clock shows.
async fn heartbeats(server: &TestServer, replicas: i64) {
    let now = server.clock.now().micros();
    let seen = format!("replicas WHERE seen_at >= {now}");
    eventually("the replicas write heartbeats", async || {
        server.database.count(&seen).await == replicas
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_turns_to_another_replica_keeps_its_session() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let other = TestServer::start(&database).await;
    let proxy = Proxy::before(&database.url).await;
    let url = [("COUNTERSIGN_DATABASE_URL", proxy.url.as_str())];
    let cut_off = other.replica(&url).await;
    let (first, lost) = lost_answer(&cut_off).await;
    let second = cut_off.login("ada@example.org").await.unwrap();
    let lost_second = cut_off.refresh(&second.refresh_token).await.unwrap();

    // The other replica reaches the database all the time.
    proxy.cut();
    let refused = reason(cut_off.refresh(&first.refresh_token).await);
    assert_eq!(refused, "DATABASE_UNAVAILABLE");
    other.clock.advance(Duration::from_secs(60));
    heartbeats(&other, 1).await;
    let again = other.refresh(&first.refresh_token).await.unwrap();
    assert_eq!(again.refresh_token, lost.refresh_token);

    // Also once the outage is over: the replica has written it down.
    proxy.mend();
    other.clock.advance(Duration::from_secs(30));
    heartbeats(&other, 2).await;
    let again = other.refresh(&second.refresh_token).await.unwrap();
    assert_eq!(again.refresh_token, lost_second.refresh_token);

    let third = other.login("ada@example.org").await.unwrap();
    cut_off.refresh(&third.refresh_token).await.unwrap();
    other.clock.advance(GRACE + SECOND);
    heartbeats(&other, 2).await;
    let refused = reason(other.refresh(&third.refresh_token).await);
    assert_eq!(refused, "REFRESH_TOKEN_REUSED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graceful_stop_of_a_replica_is_not_counted_as_an_outage() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let server = TestServer::start(&database).await;
    let stopping = server.replica(&[]).await;
    heartbeats(&server, 2).await;
    let (first, _) = lost_answer(&stopping).await;
    stopping.stop().await;
    assert_eq!(database.count("replicas").await, 1);
    server.clock.advance(GRACE + SECOND);
    let refused = reason(server.refresh(&first.refresh_token).await);
    assert_eq!(refused, "REFRESH_TOKEN_REUSED");
}

/// The only synchronous standby is gone: statements are answered, commits wait, and become visible when somebody gives
/// the standby up. On the system clock, since the times of the commits are what matters.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sessions_survive_commits_that_wait_longer_than_the_grace() {
    const SESSIONS: usize = 24;
    let cluster = Arc::new(spawn_blocking(Cluster::start).await.unwrap());
    let database = TestDatabase::of_cluster(cluster.url());
    let grace = [("COUNTERSIGN_REFRESH_GRACE", "1s")];
    let server = TestServer::start_on_system_clock(&database, &grace).await;
    server.register("ada@example.org").await.unwrap();
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(server.login("ada@example.org").await.unwrap());
    }
    database.hold_commits().await;
    let began = Instant::now();
    let retried = sessions.iter().map(async |session| {
        while began.elapsed() < Duration::from_secs(8) {
            let refused = reason(server.refresh(&session.refresh_token).await);
            assert_eq!(refused, "DATABASE_UNAVAILABLE");
            sleep(Duration::from_millis(500)).await;
        }
    });
    join_all(retried).await;
    database.release_commits().await;
    // Longer than the grace: the clients' back-off has grown.
    sleep(Duration::from_secs(3)).await;
    let answers = sessions.iter().map(async |session| {
        let mut answer = server.refresh(&session.refresh_token).await;
        while answer.is_err() && began.elapsed() < Duration::from_secs(30) {
            assert_eq!(reason(answer), "DATABASE_UNAVAILABLE");
            sleep(Duration::from_millis(200)).await;
            answer = server.refresh(&session.refresh_token).await;
        }
        answer.unwrap()
    });
    for next in join_all(answers).await {
        server.refresh(&next.refresh_token).await.unwrap();
    }
}

//! The epoch of the feed: a restored backup and a promoted standby have another one, everything else keeps it.

use std::{fs, time::Duration};

use countersign::{domain::FeedEpoch, revocation::Cursor};
use tokio_postgres::{Config, NoTls};

use crate::support::{
    Kind, TestDatabase, TestServer, cluster::Cluster, eventually, on_both_databases,
    operator::Watcher, process::run,
};

const VERIFIER: &str = "gateway@example.org";

/// Revocations, all but the newest from longer ago than what is sent again to a watcher that resumes.
const OLD: usize = 300;

/// Short polls, so that cursors move while a test watches.
const QUICK: &[(&str, &str)] = &[("COUNTERSIGN_REVOCATION_POLL_INTERVAL", "200ms")];

async fn old_revocations(server: &TestServer) {
    let twelve_digits = match server.database.kind {
        Kind::Sqlite => "substr('00000000000' || i, -12)",
        Kind::Postgres => "lpad(i::text, 12, '0')",
    };
    let now = server.clock.now();
    let (newest, written, end) = (
        now.micros(),
        (now - Duration::from_secs(600)).micros(),
        (now + Duration::from_secs(3_600)).micros(),
    );
    let sql = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {OLD})
         INSERT INTO revocations (id, kind, subject, not_before, created_at, expires_at, position)
         SELECT 'r' || i, 'session', '01900000-0000-7000-8000-' || {twelve_digits}, {written}, {written}, {end}, \
                CASE WHEN i = {OLD} THEN {newest} ELSE {written} + i END FROM n",
    );
    server.database.execute(&sql).await;
}

async fn token(server: &TestServer) -> String {
    server.login(VERIFIER).await.unwrap().access_token
}

async fn watch(server: &TestServer, cursor: &str) -> Watcher {
    let mut watcher = server.watch(&token(server).await, cursor).await.unwrap();
    watcher.until(|heard| heard.is_complete).await;
    watcher
}

/// Watches until the old revocations are covered; returns the cursor.
async fn covering_cursor(server: &TestServer) -> String {
    let mut watcher = watch(server, "").await;
    watcher
        .until(|heard| heard.sessions.len() >= OLD && heard.heartbeat.is_some())
        .await;
    watcher.cursor().await;
    watcher.cursor().await
}

fn epoch(cursor: &str) -> FeedEpoch {
    let cursor = Cursor::parse("cursor", cursor).unwrap();
    cursor.epoch().expect("the epoch is known")
}

/// Copies the database of a server that has stopped, as an operator does who restores a backup.
async fn restored(database: &TestDatabase) -> TestDatabase {
    let copy = TestDatabase::create(database.kind).await;
    match database.kind {
        Kind::Sqlite => {
            let output = run(database, &[], &["backup", "copy.db"]).await;
            assert!(output.status.success(), "{output:?}");
            let file = database.folder.path().join("copy.db");
            assert!(
                !file.with_extension("db-wal").exists(),
                "the copy is one file"
            );
            fs::copy(file, copy.sqlite_path()).unwrap();
        }
        Kind::Postgres => {
            let name = |url: &str| {
                url.parse::<Config>()
                    .unwrap()
                    .get_dbname()
                    .unwrap()
                    .to_owned()
            };
            let (from, to) = (name(&database.url), name(&copy.url));
            let mut config: Config = database.url.parse().unwrap();
            let (client, connection) = config.dbname("postgres").connect(NoTls).await.unwrap();
            tokio::spawn(connection);
            let nobody = format!("SELECT pid FROM pg_stat_activity WHERE datname = '{from}'");
            eventually("the server has closed its connections", async || {
                client.query(&nobody, &[]).await.unwrap().is_empty()
            })
            .await;
            client
                .batch_execute(&format!("DROP DATABASE {to}"))
                .await
                .unwrap();
            client
                .batch_execute(&format!("CREATE DATABASE {to} TEMPLATE {from}"))
                .await
                .unwrap();
        }
    }
    copy
}

on_both_databases! {
    async fn a_restored_backup_starts_a_new_epoch_and_forces_a_snapshot(database: TestDatabase) {
        let server = TestServer::start_with(&database, QUICK).await;
        server.signed_in_as(VERIFIER, "verifier").await;
        old_revocations(&server).await;
        let cursor = covering_cursor(&server).await;
        let clock = server.clock.clone();
        server.stop().await;
        let copy = restored(&database).await;
        let server = TestServer::try_start(&copy, QUICK, clock).await.unwrap();
        let mut resumed = watch(&server, &cursor).await;
        assert_eq!(resumed.sessions.len(), OLD, "the whole snapshot");
        assert_ne!(epoch(&resumed.cursor().await), epoch(&cursor));
    }

    async fn a_cursor_stays_valid_after_a_restart_and_on_another_replica(database: TestDatabase) {
        let here = TestServer::start_with(&database, QUICK).await;
        let there = here.replica(QUICK).await;
        here.signed_in_as(VERIFIER, "verifier").await;
        old_revocations(&here).await;
        let cursor = covering_cursor(&here).await;
        let clock = here.clock.clone();
        here.stop().await;
        let restarted = TestServer::try_start(&database, QUICK, clock).await.unwrap();
        for server in [&there, &restarted] {
            let mut resumed = watch(server, &cursor).await;
            assert_eq!(resumed.sessions.len(), 1, "the newest alone");
            assert_eq!(epoch(&resumed.cursor().await), epoch(&cursor));
        }
    }

    async fn revocations_deleted_under_a_running_server_start_a_new_epoch(database: TestDatabase) {
        let server = TestServer::start_with(&database, QUICK).await;
        let other = server.replica(QUICK).await;
        server.signed_in_as(VERIFIER, "verifier").await;
        old_revocations(&server).await;
        let cursor = covering_cursor(&server).await;
        let mut watchers = [watch(&server, &cursor).await, watch(&other, &cursor).await];
        // As a snapshot of the disk that is put back, which changes no id.
        server.database.execute("DELETE FROM revocations WHERE id <> 'r1'").await;
        server.database.execute("UPDATE feed_state SET position = 1").await;
        let mut epochs = Vec::new();
        for watcher in &mut watchers {
            let mut now = watcher.cursor().await;
            while epoch(&now) == epoch(&cursor) {
                now = watcher.cursor().await;
            }
            epochs.push(epoch(&now));
        }
        assert_eq!(epochs[0], epochs[1], "the replicas agree");
        assert_eq!(watch(&server, &cursor).await.sessions.len(), OLD, "the whole snapshot");
    }

    async fn a_table_restored_from_a_dump_starts_a_new_epoch_on_postgres(database: TestDatabase) {
        if database.kind == Kind::Sqlite {
            // There `countersign backup` gives the copy another id.
            return;
        }
        let server = TestServer::start_with(&database, QUICK).await;
        server.signed_in_as(VERIFIER, "verifier").await;
        let mut watcher = watch(&server, "").await;
        let before = epoch(&watcher.cursor().await);
        database.execute(
            "BEGIN; CREATE TABLE dumped AS SELECT * FROM feed_state; DROP TABLE feed_state; \
             ALTER TABLE dumped RENAME TO feed_state; ALTER TABLE feed_state ADD PRIMARY KEY (id); COMMIT"
        ).await;
        while epoch(&watcher.cursor().await) == before {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_standby_starts_a_new_epoch() {
    let cluster = Cluster::start();
    let database = TestDatabase::of_cluster(cluster.url());
    let server = TestServer::start_with(&database, QUICK).await;
    server.signed_in_as(VERIFIER, "verifier").await;
    let mut watcher = watch(&server, "").await;
    let before = epoch(&watcher.cursor().await);
    cluster.crash();
    cluster.resume();
    // A crash alone changes nothing.
    assert_eq!(epoch(&watcher.cursor().await), before);
    cluster.crash();
    cluster.resume_promoted();
    while epoch(&watcher.cursor().await) == before {}
}

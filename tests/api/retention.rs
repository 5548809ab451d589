//! What is deleted once nobody needs it: in batches, whatever the backlog, beside everything else.

use std::time::Duration;

use crate::support::{TestDatabase, TestServer, on_both_databases, server::open_store};

const ADA: &str = "ada@example.org";
/// Several batches, the last of them not full.
const BACKLOG: i64 = 5_600;
const DAY: i64 = 24 * 3600 * 1_000_000;

/// Fills each table with rows that are too old.
async fn insert_backlog(database: &TestDatabase, now: i64) {
    let numbers = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {BACKLOG})"
    );
    let id =
        |kind: u8| format!("'01800000-0000-7000-800{kind}-' || CAST(100000000000 + i AS TEXT)");
    let (week, day, retention) = (now - 8 * DAY, now - 2 * DAY, now - 401 * DAY);
    for rows in [
        format!(
            "INSERT INTO sessions (id, user_id, device_label, client_ip, user_agent, generation, created_at,
                                   rotated_at, idle_expires_at, absolute_expires_at, revoked_at)
             SELECT {}, users.id, '', '', '', 0, {week}, {week}, {week}, {week} - i, NULL FROM n, users",
            id(1)
        ),
        format!(
            "INSERT INTO sessions (id, user_id, device_label, client_ip, user_agent, generation, created_at,
                                   rotated_at, idle_expires_at, absolute_expires_at, revoked_at)
             SELECT {}, users.id, '', '', '', 0, {week}, {week}, {now} + {DAY}, {now} + {DAY}, {week} - i FROM n, users",
            id(2)
        ),
        format!(
            "INSERT INTO revocations (id, kind, subject, not_before, created_at, expires_at, position)
             SELECT {}, 'session', {}, {day}, {day}, {day} - i, i FROM n",
            id(3),
            id(1)
        ),
        format!(
            "INSERT INTO login_failures (account, failures, retry_at, updated_at)
             SELECT CAST(i AS TEXT), 1, 0, {day} - i FROM n"
        ),
        format!(
            "INSERT INTO audit_events (id, kind, client_ip, request_id, created_at)
             SELECT {}, 'logged_out', '', '', {retention} - i FROM n",
            id(4)
        ),
    ] {
        // SQLite takes `WITH` before `INSERT`, and so does PostgreSQL.
        database.execute(&format!("{numbers} {rows}")).await;
    }
}

on_both_databases! {
    async fn a_backlog_of_old_rows_is_deleted_while_other_operations_continue(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let ada = server.signed_in(ADA).await;
        insert_backlog(&database, server.clock.now().micros()).await;
        let (store, now) = (open_store(&database, &[]), server.clock.now());
        let others = async {
            let mut tokens = ada;
            for _ in 0..10 {
                tokens = server.refresh(&tokens.refresh_token).await.unwrap();
                server.login(ADA).await.unwrap();
            }
        };
        let (deleted, ()) = tokio::join!(store.purge(now), others);
        // The newest revocation stays.
        assert_eq!(deleted.unwrap(), usize::try_from(5 * BACKLOG - 1).unwrap());
        assert_eq!(store.purge(now).await.unwrap(), 0);
        assert_eq!(database.count("sessions").await, 11);
        assert_eq!(database.count("revocations").await, 1);
        assert_eq!(database.count("audit_events").await, 12, "that she registered and logged in");
    }

    async fn two_replicas_may_delete_at_once(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        server.signed_in(ADA).await;
        insert_backlog(&database, server.clock.now().micros()).await;
        let (one, other, now) = (open_store(&database, &[]), open_store(&database, &[]), server.clock.now());
        let (first, second) = tokio::join!(one.purge(now), other.purge(now));
        let deleted = first.unwrap_or_default() + second.unwrap_or_default();
        let left = one.purge(now).await.unwrap();
        assert!(deleted + left <= usize::try_from(5 * BACKLOG - 1).unwrap());
        assert_eq!(database.count("sessions").await, 1);
        assert_eq!(database.count("revocations").await, 1);
    }

    async fn audit_events_are_kept_for_their_retention(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        server.signed_in(ADA).await;
        let store = open_store(&database, &[("COUNTERSIGN_AUDIT_RETENTION", "30d")]);
        server.clock.advance(Duration::from_secs(30 * 24 * 3600 - 1));
        store.purge(server.clock.now()).await.unwrap();
        assert_eq!(database.count("audit_events").await, 2);
        server.clock.advance(Duration::from_secs(2));
        store.purge(server.clock.now()).await.unwrap();
        assert_eq!(database.count("audit_events").await, 0);
    }
}

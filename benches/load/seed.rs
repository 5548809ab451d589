//! Fills a database with users, sessions and revocations faster than anybody could log in.

use std::path::Path;

use countersign::clock::Clock;
use diesel::{Connection as _, SqliteConnection, connection::SimpleConnection as _};

use super::{error::Result, postgres::Cluster};

/// How much of everything.
#[derive(Clone, Copy)]
pub struct Size {
    /// Users, each with one live session.
    pub users: u32,
    /// Sessions revoked so lately that it matters.
    pub revocations: u32,
}

/// Fills the SQLite file in a fixture's folder.
pub fn sqlite(folder: &Path, size: Size) -> Result<()> {
    let file = folder.join("countersign.db");
    let mut connection = SqliteConnection::establish(&file.to_string_lossy())?;
    connection.batch_execute("PRAGMA busy_timeout = 5000")?;
    for statement in statements(size, "printf('%012x', i)") {
        connection.batch_execute(&statement)?;
    }
    Ok(connection.batch_execute("ANALYZE; PRAGMA wal_checkpoint(TRUNCATE)")?)
}

/// Adds service accounts, each with a key, to the SQLite file in a fixture's folder.
pub fn service_accounts(folder: &Path, count: u32) -> Result<()> {
    let file = folder.join("countersign.db");
    let mut connection = SqliteConnection::establish(&file.to_string_lossy())?;
    let now = Clock::System.now().micros();
    let numbers = format!(
        "WITH RECURSIVE numbers (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < {count})"
    );
    let account = "printf('01900000-0000-7000-8000-%012x', i)";
    for statement in [
        format!(
            "{numbers} INSERT INTO service_accounts SELECT {account}, printf('service-%d', i), '', 'reader writer', \
             'countersign', 'countersign', {now}, {now}, NULL, i FROM numbers"
        ),
        format!(
            "{numbers} INSERT INTO service_keys SELECT printf('01900000-0000-7000-9000-%012x', i), {account}, {now}, \
             {now} + 86400000000, NULL, NULL, i FROM numbers"
        ),
        format!("UPDATE service_directory SET version = {count}"),
    ] {
        connection.batch_execute(&statement)?;
    }
    Ok(connection.batch_execute("ANALYZE; PRAGMA wal_checkpoint(TRUNCATE)")?)
}

/// Fills a database of a cluster.
pub async fn postgres(cluster: &Cluster, database: &str, size: Size) -> Result<()> {
    let client = cluster.connect(database).await?;
    for statement in statements(size, "lpad(to_hex(i), 12, '0')") {
        client.batch_execute(&statement).await?;
    }
    for statement in ["VACUUM ANALYZE", "CHECKPOINT"] {
        client.batch_execute(statement).await?;
    }
    Ok(())
}

/// Adds audit events of logins, some of them for each of a thousand users, to a database of a cluster.
pub async fn audit_events(cluster: &Cluster, database: &str, count: u32) -> Result<()> {
    let client = cluster.connect(database).await?;
    let now = Clock::System.now().micros();
    let statement = format!(
        "INSERT INTO audit_events (id, kind, user_id, client_ip, request_id, created_at, version, details) \
         SELECT '01900000-0000-7000-b000-' || lpad(to_hex(i), 12, '0'), 'logged_in', \
         '00000000-0000-7000-8000-' || lpad(to_hex(i % 1000), 12, '0'), '127.0.0.1', 'request-' || i, {now}, 1, \
         '{{\"new_device\":false}}' FROM generate_series(1, {count}) AS i"
    );
    Ok(client.batch_execute(&statement).await?)
}

/// `twelve` spells the number `i` in twelve hexadecimal digits.
fn statements(size: Size, twelve: &str) -> [String; 3] {
    let now = Clock::System.now().micros();
    let hour = 3_600_000_000_i64;
    let (soon, day, week) = (now + hour / 2, now + 24 * hour, now + 168 * hour);
    let numbers = |count: u32| {
        format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})")
    };
    let id = |kind: char| format!("'00000000-0000-7000-{kind}000-' || {twelve}");
    let (user, session, revocation) = (id('8'), id('9'), id('a'));
    // One each 5 ms until now: read once, and not again and again as those of the last seconds are.
    let past = format!("{now} - 5000 * i");
    let (users, revocations) = (numbers(size.users), numbers(size.revocations));
    [
        format!(
            "INSERT INTO users (id, email, email_key, display_name, password_hash, roles, created_at, updated_at)
             {users} SELECT {user}, 'seed-' || i || '@example.org', 'seed-' || i || '@example.org',
             'Ada', 'none', 'user', {now}, {now} FROM n"
        ),
        format!(
            "INSERT INTO sessions (id, user_id, device_label, client_ip, user_agent, generation,
             created_at, rotated_at, idle_expires_at, absolute_expires_at)
             {users} SELECT {session}, {user}, 'phone', '127.0.0.1', 'seed', 0,
             {now}, {now}, {day}, {week} FROM n"
        ),
        format!(
            "INSERT INTO revocations (id, kind, subject, not_before, created_at, expires_at, position)
             {revocations} SELECT {revocation}, 'session', {session}, {past}, {past}, {soon}, {past} FROM n"
        ),
    ]
}

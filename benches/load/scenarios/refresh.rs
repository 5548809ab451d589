//! Refresh on PostgreSQL with everything forced to disk, against pgbench with the same UPDATE for one session at a
//! time; the service moves those on together that come together.

use std::time::Duration;

use super::Bench;
use crate::{
    driver::{Client, Load, OK},
    error::Result,
    fixture::{CHEAP_HASHES, Fixture, REFRESH, refreshes},
    measured::Bound,
    postgres::Cluster,
    rounds::Rounds,
};

const GROUP: &str = "refresh";
/// Connections to the database, the service's and pgbench's.
const CONNECTIONS: usize = 16;
/// Clients that refresh at once: the service's connections are shared by all of them.
const STREAMS: usize = 64;

/// The service's own statement for a session that comes alone; pgbench does not know a session's generation, so it takes any.
const SCRIPT: &str = r"
\set n random(1, 64)
UPDATE sessions
SET generation = generation + 1, rotated_at = rotated_at + 1, idle_expires_at = idle_expires_at + 1
WHERE id = 'bench-' || :n
  AND generation >= 0
  AND revoked_at IS NULL
  AND idle_expires_at > 1
  AND absolute_expires_at > 1
  AND EXISTS (SELECT 1 FROM users WHERE users.id = sessions.user_id AND users.disabled_at IS NULL)
RETURNING user_id, absolute_expires_at,
  (SELECT users.roles FROM users WHERE users.id = sessions.user_id);
";

/// Gives pgbench sessions of its own: those that it moved on are lost for the service.
const RENAME: &str = "
UPDATE sessions SET id = 'bench-' || numbered.n
FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM sessions) AS numbered
WHERE sessions.id = numbered.id";

pub async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let Some(bin) = bench.postgres_bin else {
        eprintln!("  left out: no --postgres-bin (scripts/bench finds it)");
        return Ok(());
    };
    let rounds = bench.choose(3, 7);
    let duration = Duration::from_secs(bench.choose(1, 5));
    let cluster = Cluster::start(bin).await?;
    let url = cluster.create("refresh").await?;
    let fixture = Fixture::on(&url, CHEAP_HASHES)?;
    let process = fixture.start().await?;
    let client = Client::connect(process.address, 4).await?;
    refreshes(&client, 64).await?;
    cluster
        .connect("refresh")
        .await?
        .batch_execute(RENAME)
        .await?;
    let load = Load {
        path: REFRESH,
        source: refreshes(&client, STREAMS).await?,
        streams: STREAMS,
        duration,
        pace: None,
    };
    let measured = Rounds::measure(
        rounds,
        async || {
            let sample = client.drive(&load).await?;
            sample.all_good()?;
            Ok(vec![sample.rate(), sample.micros(OK, 0.5)])
        },
        async || {
            let rate = cluster.pgbench("refresh", SCRIPT, CONNECTIONS, duration);
            Ok(vec![rate.await?, f64::NAN])
        },
    )
    .await?;
    let bound = Some(Bound::AtLeast(0.8));
    bench.report.compare(
        GROUP,
        "refreshes per second, 16 connections",
        "pgbench, same UPDATE",
        measured.medians(0),
        bound,
    );
    Ok(())
}

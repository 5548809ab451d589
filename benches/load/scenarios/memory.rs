//! What the service keeps in memory: when idle, per revocation, and over many validations.

use std::time::Duration;

use tokio::time::sleep;

use super::Bench;
use crate::{
    driver::{Client, Load, OK, Source, float, in_turn, once},
    error::Result,
    fixture::{Fixture, Mint, VALIDATE},
    measured::Bound,
    process::Process,
    seed::{self, Size},
};

const GROUP: &str = "memory";
const REVOCATIONS: u32 = 100_000;
/// After which an idle process has given back what it needed for its start.
const SETTLED: Duration = Duration::from_secs(3);

/// After which everything has been read a second time, as is done once after a start.
const READ_AGAIN: Duration = Duration::from_secs(14);

pub async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let fixture = Fixture::sqlite(&[])?;
    // The second start is the usual one: the database exists.
    fixture.start().await?.stop().await?;
    let process = fixture.start().await?;
    sleep(SETTLED).await;
    let idle = process.resident()?;
    let bound = Some(Bound::AtMost(35.0));
    bench
        .report
        .number(GROUP, "idle, MB", megabytes(idle), bound);

    validations(bench, &process, &fixture.mint().await?).await?;
    process.stop().await?;

    seed::sqlite(
        fixture.folder(),
        Size {
            users: 1_000,
            revocations: REVOCATIONS,
        },
    )?;
    let process = fixture.start().await?;
    sleep(bench.choose(SETTLED, READ_AGAIN)).await;
    let more = process.resident()?.saturating_sub(idle);
    bench.report.number(
        GROUP,
        "bytes per live revocation",
        float(more) / f64::from(REVOCATIONS),
        Some(Bound::AtMost(100.0)),
    );
    Ok(())
}

/// Fills the cache with more tokens than fit, then validates and validates.
async fn validations(bench: &mut Bench<'_>, process: &Process, mint: &Mint) -> Result<()> {
    let total: u64 = bench.choose(200_000, 10_000_000);
    let client = Client::connect(process.address, 4).await?;
    let fill = mint.requests(bench.choose(20_000, 60_000))?;
    let tokens = in_turn(fill.iter().take(4_096).cloned().collect());
    let load = |source: &Source, duration: u64| Load {
        path: VALIDATE,
        source: Source::clone(source),
        streams: 64,
        duration: Duration::from_secs(duration),
        pace: None,
    };
    client.drive(&load(&once(fill), 600)).await?.all_good()?;
    let mut done = 0;
    let mut early = None;
    while done < total {
        let sample = client.drive(&load(&tokens, bench.choose(1, 5))).await?;
        sample.all_good()?;
        done += sample.count(OK);
        if early.is_none() && done >= total / 10 {
            early = Some(process.resident()?);
        }
    }
    let end = process.resident()?;
    let early = early.unwrap_or(end);
    let name = format!("after {:.1} million validations, MB", float(done) / 1e6);
    bench.report.number(GROUP, &name, megabytes(end), None);
    let grown = float(end) / float(early);
    let bound = Some(Bound::AtMost(1.1));
    bench
        .report
        .number(GROUP, "the same, to that after a tenth", grown, bound);
    Ok(())
}

fn megabytes(bytes: u64) -> f64 {
    float(bytes) / 1e6
}

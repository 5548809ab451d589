//! Login throughput when nothing else runs, against loops that do nothing but hash: one with memory as it comes,
//! and one with the huge pages that the service's workers ask for.

use std::time::Duration;

use super::Bench;
use crate::{
    Result,
    driver::{Client, Load, Source, in_turn},
    fixture::{Fixture, LOGIN, logins},
    loops::{self, Pages},
    report::Bound,
    rounds::Rounds,
};

const GROUP: &str = "login";

pub async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let rounds = bench.choose(3, 7);
    let duration = Duration::from_secs(bench.choose(2, 5));
    let fixture = Fixture::sqlite(&[])?;
    let process = fixture.start().await?;
    let client = Client::connect(process.address, 4).await?;
    let credentials = in_turn(logins(&client, 64).await?);
    let load = Load {
        path: LOGIN,
        source: Source::clone(&credentials),
        streams: 32,
        duration,
        pace: None,
    };
    let promised = Some(Bound::AtLeast(0.95));
    let yardsticks = [
        (Pages::Small, "bare Argon2id loop", promised),
        (Pages::Huge, "the same on huge pages", None),
    ];
    for (pages, name, bound) in yardsticks.into_iter().take(bench.choose(1, 2)) {
        let measured = Rounds::measure(
            rounds,
            async || {
                let sample = client.drive(&load).await?;
                sample.all_good()?;
                Ok(vec![sample.rate()])
            },
            async || {
                let hashing = tokio::task::spawn_blocking(move || loops::argon2(duration, pages));
                Ok(vec![hashing.await??])
            },
        )
        .await?;
        bench
            .report
            .compare(GROUP, "logins per second", name, measured.medians(0), bound);
    }
    Ok(())
}

//! Login throughput when nothing else runs, against loops that do nothing but hash: one with the service's
//! implementation of Argon2, one with the `argon2` crate.

use std::time::Duration;

use countersign::passwords::HashingBackend;

use super::Bench;
use crate::{
    driver::{Client, Load, Source, in_turn},
    error::Result,
    fixture::{Fixture, LOGIN, logins},
    loops,
    measured::Bound,
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
    let yardsticks = [
        (HashingBackend::detect(), "bare Argon2id loop", 0.9),
        (
            HashingBackend::Portable,
            "the same by the argon2 crate",
            0.95,
        ),
    ];
    for (backend, name, least) in yardsticks.into_iter().take(bench.choose(1, 2)) {
        let measured = Rounds::measure(
            rounds,
            async || {
                let sample = client.drive(&load).await?;
                sample.all_good()?;
                Ok(vec![sample.rate()])
            },
            async || {
                let hashing = tokio::task::spawn_blocking(move || loops::argon2(duration, backend));
                Ok(vec![hashing.await??])
            },
        )
        .await?;
        bench.report.compare(
            GROUP,
            "logins per second",
            name,
            measured.medians(0),
            Some(Bound::AtLeast(least)),
        );
    }
    Ok(())
}

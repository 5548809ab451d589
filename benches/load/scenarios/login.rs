//! Login throughput when nothing else runs, against a loop that does nothing but hash.

use std::time::Duration;

use super::Bench;
use crate::{
    Result,
    driver::{Client, Load, OK, Source, in_turn},
    fixture::{Fixture, LOGIN, logins},
    loops,
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
    let measured = Rounds::measure(
        rounds,
        async || {
            let sample = client.drive(&load).await?;
            sample.all_good()?;
            Ok(vec![sample.rate(), sample.micros(OK, 0.5)])
        },
        async || {
            let hashing = tokio::task::spawn_blocking(move || loops::argon2(duration));
            Ok(vec![hashing.await??, f64::NAN])
        },
    )
    .await?;
    let bound = Some(Bound::AtLeast(0.95));
    bench.report.compare(
        GROUP,
        "logins per second",
        "bare Argon2id loop",
        measured.medians(0),
        bound,
    );
    Ok(())
}

//! From the start of the process until health answers SERVING.

use countersign::clock::monotonic_now;

use super::Bench;
use crate::{
    driver::Client,
    error::Result,
    fixture::{Fixture, serving},
    measured::Bound,
    rounds::median,
    seed::{self, Size},
};

const GROUP: &str = "start to SERVING";

pub async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let fixture = Fixture::sqlite(&[])?;
    fixture.start().await?.stop().await?;
    let starts = bench.choose(5, 15);
    let plain = millis(&fixture, starts).await?;
    let bound = Some(Bound::AtMost(200.0));
    bench
        .report
        .number(GROUP, "existing SQLite file, ms", plain, bound);

    let size = Size {
        users: 1_000,
        revocations: 100_000,
    };
    seed::sqlite(fixture.folder(), size)?;
    let full = millis(&fixture, starts).await?;
    let bound = Some(Bound::AtMost(1_000.0));
    bench
        .report
        .number(GROUP, "with 100,000 live revocations, ms", full, bound);
    Ok(())
}

/// The median over some starts.
async fn millis(fixture: &Fixture, starts: usize) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..starts {
        let begin = monotonic_now();
        let process = fixture.start().await?;
        serving(&Client::connect(process.address, 1).await?).await?;
        times.push(begin.elapsed().as_secs_f64() * 1_000.0);
        process.stop().await?;
    }
    Ok(median(times))
}

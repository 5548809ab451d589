//! From the begin of a verifier's connection until it knows 100,000 live revocations.

use countersign::clock::monotonic_now;
use countersign_verifier::{Credential, Verifier, VerifierConfig};

use super::Bench;
use crate::{
    Result,
    driver::Client,
    fixture::{Fixture, serving},
    report::Bound,
    rounds::median,
    seed::{self, Size},
};

const GROUP: &str = "verifier that connects";
const REVOCATIONS: u32 = 100_000;

pub async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let fixture = Fixture::sqlite(&[])?;
    fixture.start().await?.stop().await?;
    let size = Size {
        users: 1_000,
        revocations: REVOCATIONS,
    };
    seed::sqlite(fixture.folder(), size)?;
    let process = fixture.start().await?;
    serving(&Client::connect(process.address, 1).await?).await?;
    let endpoint = format!("http://{}", process.address);
    let access_token = fixture.mint().await?.verifier_token()?;

    let mut times = Vec::new();
    for _ in 0..bench.choose(5, 15) {
        let credential = Credential::access_token(&access_token);
        let config = VerifierConfig::new("http://localhost:50051", "countersign", credential);
        let begin = monotonic_now();
        let verifier = Verifier::connect(&endpoint, config).await?;
        times.push(begin.elapsed().as_secs_f64() * 1_000.0);
        let known = verifier.revocation_count();
        if known < REVOCATIONS as usize {
            return Err(format!("the verifier knows {known} revocations").into());
        }
    }
    let slowest = times.iter().copied().fold(0.0, f64::max);
    let report = &mut *bench.report;
    let bound = Some(Bound::AtMost(2_000.0));
    let name = "100,000 revocations known, ms";
    report.number(GROUP, name, median(times), bound);
    report.number(GROUP, "the same, the slowest", slowest, None);
    Ok(())
}

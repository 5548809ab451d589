//! The crate `countersign-verifier`: from the begin of its connection until it knows 100,000 live revocations, and its `verify`
//! against `ValidateToken` with the same tokens.

use std::{hint::black_box, sync::Arc, time::Duration};

use countersign::clock::monotonic_now;
use countersign_verifier::{Credential, Demand, Verifier, VerifierConfig};
use tokio::task::spawn_blocking;

use super::{Bench, validate::Side};
use crate::{
    driver::{Client, float, frame, in_turn},
    error::Result,
    fixture::{Fixture, VALIDATE, serving, validate},
    measured::Bound,
    rounds::{Rounds, median},
    seed::{self, Size},
};

const GROUP: &str = "verifier";
const REVOCATIONS: u32 = 100_000;
const TOKENS: usize = 256;
/// Verifications between two looks at the clock.
const BATCH: usize = 1_000;

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
    let mint = fixture.mint().await?;
    let endpoint = format!("http://{}", process.address);
    let verifier = snapshots(bench, &endpoint, &mint.verifier_token()?).await?;

    let server = Side::new(process, VALIDATE).await?;
    let tokens: Result<Vec<_>> = (0..TOKENS).map(|_| mint.token()).collect();
    let tokens = Arc::new(tokens?);
    let requests = tokens.iter().map(|token| frame(&validate(token.clone())));
    let requests = in_turn(requests.collect());
    let duration = Duration::from_millis(bench.choose(350, 1_000));
    let cores = std::thread::available_parallelism()?.get();
    for streams in [1, 16, 64] {
        let measured = Rounds::measure(
            bench.choose(5, 11),
            async || Ok(vec![verifications(&verifier, &tokens, duration).await?]),
            async || {
                let figures = server.drive(&requests, streams, duration).await?;
                Ok(vec![figures[0] / float(cores as u64)])
            },
        )
        .await?;
        let name = format!("verify: calls a second and core, {streams} calls at once");
        let bound = Some(Bound::AtLeast(100.0));
        let medians = measured.medians(0);
        bench
            .report
            .compare(GROUP, &name, "ValidateToken", medians, bound);
    }
    Ok(())
}

/// Connects several times. Returns the last verifier.
async fn snapshots(bench: &mut Bench<'_>, endpoint: &str, access_token: &str) -> Result<Verifier> {
    let mut times = Vec::new();
    let verifier = loop {
        let credential = Credential::access_token(access_token);
        let config = VerifierConfig::new("http://localhost:50051", "countersign", credential);
        let begin = monotonic_now();
        let verifier = Verifier::connect(endpoint, config).await?;
        times.push(begin.elapsed().as_secs_f64() * 1_000.0);
        let known = verifier.revocation_count();
        if known < REVOCATIONS as usize {
            return Err(format!("the verifier knows {known} revocations").into());
        }
        if times.len() == bench.choose(5, 15) {
            break verifier;
        }
    };
    let slowest = times.iter().copied().fold(0.0, f64::max);
    let report = &mut *bench.report;
    let bound = Some(Bound::AtMost(2_000.0));
    let name = "connects, 100,000 revocations known, ms";
    report.number(GROUP, name, median(times), bound);
    report.number(GROUP, "the same, the slowest, ms", slowest, bound);
    Ok(verifier)
}

/// How many tokens one thread verifies in a second.
async fn verifications(
    verifier: &Verifier,
    tokens: &Arc<Vec<String>>,
    duration: Duration,
) -> Result<f64> {
    let (verifier, tokens) = (verifier.clone(), Arc::clone(tokens));
    let work = move || {
        let demand = Demand::new();
        let mut tokens = tokens.iter().cycle();
        let (begin, mut count) = (monotonic_now(), 0_u64);
        while begin.elapsed() < duration {
            for token in tokens.by_ref().take(BATCH) {
                verifier.verify(black_box(token), &demand)?;
            }
            count += BATCH as u64;
        }
        Ok::<_, countersign_verifier::VerifyError>(float(count) / begin.elapsed().as_secs_f64())
    };
    Ok(spawn_blocking(work).await??)
}

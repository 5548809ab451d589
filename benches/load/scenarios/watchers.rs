//! A thousand watchers of revocations: their cost, and the latency of validation while revocations are sent to them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use countersign::{clock::monotonic_now, grpc::pb};
use tokio::{
    runtime::Handle,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::Bench;
use crate::{
    driver::{Client, Load, Source, float, frame, in_turn, once},
    error::Result,
    fixture::{CHEAP_HASHES, Fixture, LOGOUT, WATCH, logouts},
    process::Process,
    rounds::{Figures, Rounds},
    steady::SteadyValidation,
};

const GROUP: &str = "watchers";
const WATCHERS: usize = 1_000;
const CONNECTIONS: usize = 20;
/// How often a user logs out; the revocation goes to every watcher.
const LOGOUTS: Duration = Duration::from_millis(500);
/// Until a thousand streams are open.
const PATIENCE: Duration = Duration::from_secs(60);
const SETTLED: Duration = Duration::from_millis(300);

pub async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let rounds = bench.choose(3, 9);
    let duration = Duration::from_secs(bench.choose(1, 4));
    let limit = [("COUNTERSIGN_MAX_WATCHERS", "4000")];
    let fixture = Fixture::sqlite(&[CHEAP_HASHES, &limit].concat())?;
    let process = fixture.start().await?;
    let mint = fixture.mint().await?;
    let access_token = mint.verifier_token()?;
    let tokens = in_turn(mint.requests(256)?);
    let validation = SteadyValidation::connect(Handle::current(), process.address, &tokens).await?;
    let client = Client::connect(process.address, 1).await?;
    let farewells = once(logouts(&client, bench.choose(40, 160)).await?);

    let (mut processor, mut memory) = (Vec::new(), Vec::new());
    let measured = Rounds::measure(
        rounds,
        async || {
            let before = process.resident()?;
            let watchers = open(&process, &access_token).await?;
            processor.push(percent_of_a_core(&process, duration).await?);
            memory.push(float(process.resident()?.saturating_sub(before)) / 1e6);
            let figures = validate_beside_logouts(&validation, &client, &farewells, duration);
            let figures = figures.await?;
            drop(watchers);
            // The streams are being closed; that is nobody's round.
            sleep(SETTLED).await;
            Ok(figures)
        },
        async || validate_beside_logouts(&validation, &client, &farewells, duration).await,
    )
    .await?;
    let report = &mut *bench.report;
    let highest = |values: Vec<f64>| values.into_iter().fold(0.0, f64::max);
    report.number(
        GROUP,
        "1,000 of them idle, percent of a core",
        highest(processor),
        None,
    );
    report.number(GROUP, "1,000 of them, MB", highest(memory), None);
    let against = "without them";
    report.compare(
        GROUP,
        "validate p50, us",
        against,
        measured.medians(0),
        None,
    );
    report.compare(
        GROUP,
        "validate p99, us",
        against,
        measured.medians(1),
        None,
    );
    Ok(())
}

/// Opens the streams and waits until each has begun. Dropping them closes them.
async fn open(process: &Process, access_token: &str) -> Result<JoinSet<Result<()>>> {
    let client = Client::connect(process.address, CONNECTIONS).await?;
    let begun = Arc::new(AtomicUsize::new(0));
    let mut watchers = JoinSet::new();
    for number in 0..WATCHERS {
        let mut caller = client.caller(WATCH, number).bearing(access_token)?;
        let begun = Arc::clone(&begun);
        let request = frame(&pb::WatchRevocationsRequest::default());
        watchers.spawn(async move { caller.listen(request, &begun).await });
    }
    timeout(PATIENCE, async {
        while begun.load(Ordering::Relaxed) < WATCHERS {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await?;
    match watchers.try_join_next() {
        Some(ended) => Err(ended?.err().unwrap_or_else(|| "a stream ended".into())),
        None => Ok(watchers),
    }
}

async fn percent_of_a_core(process: &Process, duration: Duration) -> Result<f64> {
    let (begin, used) = (monotonic_now(), process.cpu_time()?);
    sleep(duration).await;
    let used = process.cpu_time()?.saturating_sub(used);
    Ok(100.0 * used.as_secs_f64() / (monotonic_now() - begin).as_secs_f64())
}

async fn validate_beside_logouts(
    validation: &SteadyValidation,
    client: &Client,
    farewells: &Source,
    duration: Duration,
) -> Result<Figures> {
    let logouts = Load {
        path: LOGOUT,
        source: Source::clone(farewells),
        streams: 1,
        duration,
        pace: Some(LOGOUTS),
    };
    let (figures, ended) = tokio::join!(validation.micros(duration), client.drive(&logouts));
    ended?.all_good()?;
    figures
}

//! Steady validation beside a storm of logins, and what becomes of the logins that are too many.

use std::{cell::RefCell, time::Duration};

use tokio::{
    runtime::Handle,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::Bench;
use crate::{
    driver::{Client, Load, Sample, Source, UNAVAILABLE, float, in_turn, once},
    error::Result,
    fixture::{Fixture, LOGIN, logins},
    measured::Bound,
    process::Hashing,
    rounds::{Rounds, median},
    steady::{Foremost, SteadyValidation},
};

const GROUP: &str = "login storm";
/// Logins under way at once: all that a queue of the default size takes.
const STORM: usize = 64;
/// Logins that come on top, all at once.
const EXCESS: usize = 64;
/// How a caller's figures are marked that has no core to itself.
const ORDINARY: &str = ", its caller waiting too";

pub async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let rounds = bench.choose(3, 9);
    let duration = Duration::from_secs(bench.choose(2, 4));
    let fixture = Fixture::sqlite(&[])?;
    let process = fixture.start().await?;
    let tokens = in_turn(fixture.mint().await?.requests(256)?);
    let foremost = Foremost::start().await;
    let (thread, name) = match &foremost {
        Ok(foremost) => (foremost.handle(), ""),
        Err(error) => {
            eprintln!("  the caller waits for cores like others: {error}");
            (Handle::current(), ORDINARY)
        }
    };
    let validation = SteadyValidation::connect(thread.clone(), process.address, &tokens).await?;
    let client = Client::connect(process.address, 4).await?;
    let credentials = in_turn(logins(&client, STORM).await?);

    // How many logins the service manages while it keeps a core free for validation.
    let rates = RefCell::new(Vec::new());
    let in_the_storm = async |validation: &SteadyValidation| {
        let storm = login_load(&client, &credentials, STORM, duration);
        let figures = validation.micros(duration).await?;
        let storm = storm.await??;
        storm.all_good()?;
        rates.borrow_mut().push(storm.rate());
        Ok(figures)
    };
    let beside_hashing = async || {
        let hashing = Hashing::start()?;
        let figures = validation.micros(duration).await?;
        hashing.stop().await?;
        Ok(figures)
    };
    let measured = Rounds::measure(
        rounds,
        async || in_the_storm(&validation).await,
        async || validation.micros(duration).await,
    )
    .await?;
    let bound = Some(Bound::AtMost(2.0));
    report(bench, name, "without the storm", &measured, bound);
    let rate = median(rates.take());
    bench
        .report
        .number(GROUP, "logins per second meanwhile", rate, None);
    if !bench.quick {
        // What of it is due to cores that are never idle, whoever makes them so.
        let measured = Rounds::measure(
            rounds,
            async || in_the_storm(&validation).await,
            beside_hashing,
        )
        .await?;
        report(bench, name, "beside bare hashing", &measured, None);
    }
    if !bench.quick && foremost.is_ok() {
        // What a caller sees that has to share these cores.
        let beside = Handle::current();
        let validation = SteadyValidation::connect(beside, process.address, &tokens).await?;
        let measured = Rounds::measure(
            rounds,
            async || in_the_storm(&validation).await,
            async || validation.micros(duration).await,
        )
        .await?;
        report(bench, ORDINARY, "without the storm", &measured, None);
    }

    // By itself: callers that are refused and come again at once are another load than the storm.
    let duration = Duration::from_secs(bench.choose(1, 4));
    let excess = thread.spawn(Client::connect(process.address, 4)).await??;
    let mut refused = Vec::new();
    for _ in 0..3 {
        let storm = login_load(&client, &credentials, STORM, duration);
        let burst = burst(&excess, &credentials, duration / 2);
        refused.push(thread.spawn(burst).await??);
        storm.await??;
    }
    let report = &mut *bench.report;
    let overloaded: u64 = refused.iter().map(|sample| sample.count(UNAVAILABLE)).sum();
    let slowest = refused
        .iter()
        .map(|sample| sample.micros(UNAVAILABLE, 0.99) / 1_000.0);
    let slowest = slowest.fold(0.0, f64::max);
    report.number(GROUP, "excess logins refused", float(overloaded), None);
    let bound = Some(Bound::AtMost(50.0));
    report.number(GROUP, "refusals' p99, ms", slowest, bound);
    Ok(())
}

fn report(
    bench: &mut Bench<'_>,
    caller: &str,
    against: &'static str,
    measured: &Rounds,
    bound: Option<Bound>,
) {
    let report = &mut *bench.report;
    let (p50, p99) = (measured.medians(0), measured.medians(1));
    let name = |figure| format!("validate {figure}, us{caller}");
    report.compare(GROUP, &name("p50"), against, p50, None);
    report.compare(GROUP, &name("p99"), against, p99, bound);
}

fn login_load(
    client: &Client,
    credentials: &Source,
    streams: usize,
    duration: Duration,
) -> JoinHandle<Result<Sample>> {
    let client = client.clone();
    let load = Load {
        path: LOGIN,
        source: Source::clone(credentials),
        streams,
        duration,
        pace: None,
    };
    tokio::spawn(async move { client.drive(&load).await })
}

/// In the midst of the storm, that many logins more, once.
fn burst(
    client: &Client,
    credentials: &Source,
    after: Duration,
) -> impl Future<Output = Result<Sample>> + Send + use<> {
    let client = client.clone();
    let requests = (0..EXCESS).filter_map(|_| credentials(0, None));
    let load = Load {
        path: LOGIN,
        source: once(requests.collect()),
        streams: EXCESS,
        // They are over long before, one on each stream.
        duration: Duration::from_secs(60),
        pace: None,
    };
    async move {
        sleep_until(Instant::now() + after).await;
        client.drive(&load).await
    }
}

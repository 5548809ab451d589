//! Two builds of the service side by side, in alternating rounds: this one, and another given by `--other`.
//!
//! Tokens and sessions are made through the public API, so the other build may have another schema.

use std::{path::Path, time::Duration};

use countersign::grpc::pb;
use tokio::runtime::Handle;

use super::Bench;
use crate::{
    driver::{Client, Load, OK, Source, float, frame, in_turn},
    error::Result,
    fixture::{
        CHEAP_HASHES, Fixture, LOGIN, REFRESH, VALIDATE, login, logins, refreshes, register,
        validate,
    },
    postgres::Cluster,
    process::Process,
    rounds::{Figures, Rounds},
    steady::SteadyValidation,
};

const GROUP: &str = "compare";
/// Access tokens in use.
const TOKENS: usize = 64;
/// Users who log in in turn: so many that nobody's sessions come near the limit, which older builds do not have.
const USERS: usize = 1_000;

struct Side {
    process: Process,
    client: Client,
    _fixture: Fixture,
}

impl Side {
    async fn start(program: &Path, fixture: Fixture) -> Result<Self> {
        let process = fixture.start_program(program).await?;
        let client = Client::connect(process.address, 4).await?;
        Ok(Self {
            process,
            client,
            _fixture: fixture,
        })
    }

    async fn tokens(&self) -> Result<Source> {
        register(&self.client, "tokens@example.org").await?;
        let mut requests = Vec::new();
        for _ in 0..TOKENS {
            let answer: pb::LoginResponse = self
                .client
                .call(LOGIN, &login("tokens@example.org"))
                .await?;
            let tokens = answer.tokens.ok_or("a login without tokens")?;
            requests.push(frame(&validate(tokens.access_token)));
        }
        Ok(in_turn(requests))
    }

    /// Calls per second, p50, p99 and the server's CPU time per call, in microseconds.
    async fn drive(
        &self,
        path: &'static str,
        source: &Source,
        streams: usize,
        duration: Duration,
    ) -> Result<Figures> {
        let before = self.process.cpu_time()?;
        let load = Load {
            path,
            source: Source::clone(source),
            streams,
            duration,
            pace: None,
        };
        let sample = self.client.drive(&load).await?;
        sample.all_good()?;
        let cpu = self.process.cpu_time()?.saturating_sub(before);
        Ok(vec![
            sample.rate(),
            sample.micros(OK, 0.5),
            sample.micros(OK, 0.99),
            cpu.as_secs_f64() * 1e6 / float(sample.count(OK)),
        ])
    }

    /// Validation at a steady rate beside 64 logins at once: logins per second, p50 and p99 of the validations.
    async fn storm(
        &self,
        tokens: &Source,
        credentials: &Source,
        duration: Duration,
    ) -> Result<Figures> {
        let load = Load {
            path: LOGIN,
            source: Source::clone(credentials),
            streams: 64,
            duration,
            pace: None,
        };
        let client = self.client.clone();
        let logins = tokio::spawn(async move { client.drive(&load).await });
        let mut figures = self.steady(tokens, duration).await?;
        figures[0] = logins.await??.rate();
        Ok(figures)
    }

    /// Validation at a steady rate: p50 and p99.
    async fn steady(&self, tokens: &Source, duration: Duration) -> Result<Figures> {
        let caller = Handle::current();
        let validation = SteadyValidation::connect(caller, self.process.address, tokens).await?;
        let micros = validation.micros(duration).await?;
        Ok(vec![f64::NAN, micros[0], micros[1], f64::NAN])
    }
}

const FIGURES: [&str; 4] = [
    "calls per second",
    "p50, us",
    "p99, us",
    "server CPU per call, us",
];

fn report(bench: &mut Bench<'_>, what: &str, measured: &Rounds) {
    for (figure, name) in FIGURES.iter().enumerate() {
        let name = format!("{what}: {name}");
        bench
            .report
            .compare(GROUP, &name, "other build", measured.medians(figure), None);
    }
}

/// The two builds.
struct Builds<'a> {
    this: &'a Path,
    other: &'a Path,
    rounds: usize,
    duration: Duration,
}

pub async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let Some(other) = bench.other else {
        eprintln!("  left out: no --other");
        return Ok(());
    };
    let builds = Builds {
        this: bench
            .this
            .unwrap_or(Path::new(env!("CARGO_BIN_EXE_countersign"))),
        other,
        rounds: bench.choose(5, 11),
        duration: Duration::from_millis(bench.choose(1_000, 2_000)),
    };
    cheap_hashes(bench, &builds).await?;
    default_hashes(bench, &builds).await?;
    refreshes_on_postgres(bench, &builds).await
}

/// `ValidateToken`, and what a login costs besides its hash.
async fn cheap_hashes(bench: &mut Bench<'_>, builds: &Builds<'_>) -> Result<()> {
    let duration = builds.duration;
    let ours = Side::start(builds.this, Fixture::sqlite(CHEAP_HASHES)?).await?;
    let theirs = Side::start(builds.other, Fixture::sqlite(CHEAP_HASHES)?).await?;
    let (our_tokens, their_tokens) = (ours.tokens().await?, theirs.tokens().await?);
    for streams in [1, 16, 64] {
        let measured = Rounds::measure(
            builds.rounds,
            async || ours.drive(VALIDATE, &our_tokens, streams, duration).await,
            async || {
                theirs
                    .drive(VALIDATE, &their_tokens, streams, duration)
                    .await
            },
        )
        .await?;
        report(
            bench,
            &format!("ValidateToken, {streams} at once"),
            &measured,
        );
    }
    let our_logins = in_turn(logins(&ours.client, USERS).await?);
    let their_logins = in_turn(logins(&theirs.client, USERS).await?);
    let measured = Rounds::measure(
        builds.rounds,
        async || ours.drive(LOGIN, &our_logins, 16, duration).await,
        async || theirs.drive(LOGIN, &their_logins, 16, duration).await,
    )
    .await?;
    report(bench, "Login with a cheap hash, 16 at once", &measured);
    Ok(())
}

/// Logins at the default cost of a hash, and validation beside them and without them.
async fn default_hashes(bench: &mut Bench<'_>, builds: &Builds<'_>) -> Result<()> {
    let duration = 2 * builds.duration;
    let ours = Side::start(builds.this, Fixture::sqlite(&[])?).await?;
    let theirs = Side::start(builds.other, Fixture::sqlite(&[])?).await?;
    let (our_tokens, their_tokens) = (ours.tokens().await?, theirs.tokens().await?);
    let our_logins = in_turn(logins(&ours.client, USERS).await?);
    let their_logins = in_turn(logins(&theirs.client, USERS).await?);
    let measured = Rounds::measure(
        bench.choose(5, 9),
        async || ours.drive(LOGIN, &our_logins, 32, duration).await,
        async || theirs.drive(LOGIN, &their_logins, 32, duration).await,
    )
    .await?;
    report(bench, "Login, 32 at once", &measured);
    let measured = Rounds::measure(
        bench.choose(5, 9),
        async || ours.storm(&our_tokens, &our_logins, duration).await,
        async || theirs.storm(&their_tokens, &their_logins, duration).await,
    )
    .await?;
    report(
        bench,
        "ValidateToken beside 64 logins (the rate is that of the logins)",
        &measured,
    );
    let measured = Rounds::measure(
        bench.choose(3, 5),
        async || ours.steady(&our_tokens, duration).await,
        async || theirs.steady(&their_tokens, duration).await,
    )
    .await?;
    report(bench, "ValidateToken without logins", &measured);
    for (name, side) in [("this build", &ours), ("other build", &theirs)] {
        let mib = float(side.process.resident()?) / 1_048_576.0;
        let name = format!("resident memory after the storm, MiB: {name}");
        bench.report.number(GROUP, &name, mib, None);
    }
    Ok(())
}

async fn refreshes_on_postgres(bench: &mut Bench<'_>, builds: &Builds<'_>) -> Result<()> {
    let Some(bin) = bench.postgres_bin else {
        return Ok(());
    };
    let cluster = Cluster::start(bin).await?;
    let (our_url, their_url) = (
        cluster.create("ours").await?,
        cluster.create("theirs").await?,
    );
    let ours = Side::start(builds.this, Fixture::on(&our_url, CHEAP_HASHES)?).await?;
    let theirs = Side::start(builds.other, Fixture::on(&their_url, CHEAP_HASHES)?).await?;
    let our_sessions = refreshes(&ours.client, 64).await?;
    let their_sessions = refreshes(&theirs.client, 64).await?;
    let duration = builds.duration;
    let measured = Rounds::measure(
        builds.rounds,
        async || ours.drive(REFRESH, &our_sessions, 64, duration).await,
        async || theirs.drive(REFRESH, &their_sessions, 64, duration).await,
    )
    .await?;
    report(bench, "Refresh on PostgreSQL, 64 at once", &measured);
    Ok(())
}

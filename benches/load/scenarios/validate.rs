//! `ValidateToken` with tokens that were seen before, against an echo.

use std::time::Duration;

use countersign::grpc::pb::{ValidateTokenRequest, ValidateTokenResponse};
use prost::Message as _;

use super::Bench;
use crate::{
    driver::{Client, Load, OK, Source, float, frame, in_turn},
    echo,
    error::Result,
    fixture::{Fixture, Mint, VALIDATE, validate},
    measured::Bound,
    process::Process,
    rounds::{Figures, Rounds},
};

const GROUP: &str = "validate";
/// Enough that no cache line is always the same, few enough that all stay in the cache.
const TOKENS: usize = 256;

/// One side of the comparison.
pub struct Side {
    pub process: Process,
    pub client: Client,
    path: &'static str,
}

pub async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let rounds = bench.choose(7, 21);
    let duration = Duration::from_millis(bench.choose(350, 1_000));
    let fixture = Fixture::sqlite(&[])?;
    let ours = Side::new(fixture.start().await?, VALIDATE).await?;
    let mint = fixture.mint().await?;
    let requests = in_turn(mint.requests(TOKENS)?);

    let answer: ValidateTokenResponse =
        ours.client.call(VALIDATE, &validate(mint.token()?)).await?;
    let folder = tempfile::tempdir()?;
    let echo = Process::echo(folder.path(), answer.encoded_len(), None).await?;
    let echo = Side::new(echo, echo::PATH).await?;
    echo.check_size(&requests, answer.encoded_len()).await?;

    for side in [&ours, &echo] {
        side.drive(&requests, 16, duration).await?;
    }
    for streams in [1, 16, 64] {
        let measured = Rounds::measure(
            rounds,
            async || ours.drive(&requests, streams, duration).await,
            async || echo.drive(&requests, streams, duration).await,
        )
        .await?;
        let mut line = |figure: usize, name: &str, bound| {
            let name = format!("{name}, {streams} at once");
            let medians = measured.medians(figure);
            bench.report.compare(GROUP, &name, "echo", medians, bound);
        };
        line(0, "calls per second", Some(Bound::AtLeast(0.95)));
        line(1, "p50, us", None);
        line(2, "p99, us", Some(Bound::AtMost(1.2)));
        line(3, "server's CPU per call, us", None);
    }
    step_up(bench, &ours, &mint).await
}

/// The same tokens with a demand on the age of the authentication (RFC 9470), against without.
async fn step_up(bench: &mut Bench<'_>, ours: &Side, mint: &Mint) -> Result<()> {
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..TOKENS {
        let plain = validate(mint.token()?);
        without.push(frame(&plain));
        with.push(frame(&ValidateTokenRequest {
            max_auth_age: Some(prost_types::Duration {
                seconds: 3_600,
                nanos: 0,
            }),
            ..plain
        }));
    }
    let (with, without) = (in_turn(with), in_turn(without));
    let duration = Duration::from_millis(bench.choose(350, 1_000));
    let measured = Rounds::measure(
        bench.choose(7, 21),
        async || ours.drive(&with, 16, duration).await,
        async || ours.drive(&without, 16, duration).await,
    )
    .await?;
    let name = "server's CPU per call with max_auth_age, us, 16 at once";
    let bound = Some(Bound::AtMost(1.02));
    bench
        .report
        .compare(GROUP, name, "without", measured.medians(3), bound);
    Ok(())
}

impl Side {
    /// A client of a server.
    pub async fn new(process: Process, path: &'static str) -> Result<Self> {
        let client = Client::connect(process.address, 4).await?;
        Ok(Self::with_client(process, client, path))
    }

    /// The same with a client that is connected already.
    pub const fn with_client(process: Process, client: Client, path: &'static str) -> Self {
        Self {
            process,
            client,
            path,
        }
    }

    /// Calls per second, the median and the 99th percentile of latency, and the server's CPU time per call.
    pub async fn drive(
        &self,
        source: &Source,
        streams: usize,
        duration: Duration,
    ) -> Result<Figures> {
        let before = self.process.cpu_time()?;
        let sample = self
            .client
            .drive(&Load {
                path: self.path,
                source: Source::clone(source),
                streams,
                duration,
                pace: None,
            })
            .await?;
        sample.all_good()?;
        let cpu = self.process.cpu_time()?.saturating_sub(before);
        Ok(vec![
            sample.rate(),
            sample.micros(OK, 0.5),
            sample.micros(OK, 0.99),
            cpu.as_secs_f64() * 1e6 / float(sample.count(OK)),
        ])
    }

    /// Makes sure that the comparison is one: the echo's answer is as long as ours.
    pub async fn check_size(&self, source: &Source, expected: usize) -> Result<()> {
        let message = source(0, None).unwrap_or_else(|| frame(&echo::Text::default()));
        let answer = self.client.caller(self.path, 0).call(message).await?;
        if answer.code == OK && answer.message.len() == expected {
            Ok(())
        } else {
            let length = answer.message.len();
            Err(format!("the echo answers {length} bytes, not {expected}").into())
        }
    }
}

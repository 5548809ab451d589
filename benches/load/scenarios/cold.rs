//! `ValidateToken` with tokens that were never seen before.

use std::time::Duration;

use countersign::grpc::pb::ValidateTokenResponse;
use prost::Message as _;

use super::Bench;
use crate::{
    driver::{float, once},
    echo,
    error::Result,
    fixture::{Fixture, VALIDATE, validate},
    loops,
    measured::Bound,
    process::Process,
    rounds::{Rounds, median},
    scenarios::validate::Side,
};

const GROUP: &str = "validate, cold";

pub async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let rounds = bench.choose(5, 11);
    let duration = Duration::from_millis(bench.choose(300, 600));
    // More than either side gets through in a round; what is left over is thrown away.
    let tokens = bench.choose(8_000, 16_000);
    let fixture = Fixture::sqlite(&[])?;
    let ours = Side::new(fixture.start().await?, VALIDATE).await?;
    let mint = fixture.mint().await?;
    let key = mint.public_key()?;

    let answer: ValidateTokenResponse =
        ours.client.call(VALIDATE, &validate(mint.token()?)).await?;
    let folder = tempfile::tempdir()?;
    let echo = Process::echo(folder.path(), answer.encoded_len(), Some(&key)).await?;
    let echo = Side::new(echo, echo::PATH).await?;

    for streams in [1, 16, 64] {
        let drive = async |side: &Side| {
            let requests = once(mint.requests(tokens)?);
            side.drive(&requests, streams, duration).await
        };
        let measured = Rounds::measure(
            rounds,
            async || drive(&ours).await,
            async || drive(&echo).await,
        )
        .await?;
        let mut line = |figure: usize, name: &str, bound| {
            let name = format!("{name}, {streams} at once");
            let medians = measured.medians(figure);
            bench
                .report
                .compare(GROUP, &name, "echo + ES256", medians, bound);
        };
        line(0, "calls per second", Some(Bound::AtLeast(0.9)));
        line(2, "p99, us", None);
        line(3, "server's CPU per call, us", None);
    }

    // For scale: what the two cores verify when there is no network, no client and no call.
    let tokens: Vec<_> = (0..512).map(|_| mint.token()).collect::<Result<_>>()?;
    let mut rates = Vec::new();
    for _ in 0..3 {
        rates.push(loops::es256(duration, &key, &tokens)?);
    }
    let cores = float(std::thread::available_parallelism()?.get() as u64);
    let rate = median(rates);
    let micros = 1e6 * cores / rate;
    bench
        .report
        .number(GROUP, "bare ES256 loop, no calls, per second", rate, None);
    bench
        .report
        .number(GROUP, "one ES256 verification, us", micros, None);
    Ok(())
}

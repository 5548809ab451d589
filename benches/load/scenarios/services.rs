//! `IssueToken` by a service key and `ExchangeToken`, against an echo that does the same cryptography; and what the
//! directory of service accounts keeps in memory.

use std::time::Duration;

use bytes::Bytes;
use countersign::grpc::pb::{
    ExchangeTokenRequest, ExchangeTokenResponse, IssueTokenRequest, IssueTokenResponse,
    issue_token_request::Credential,
};
use prost::Message;
use tokio::time::sleep;

use super::{Bench, validate::Side};
use crate::{
    driver::{Source, float, frame, in_turn, once},
    echo,
    error::Result,
    fixture::{EXCHANGE, Fixture, ISSUE},
    loops,
    measured::Bound,
    process::Process,
    rounds::Rounds,
    seed,
};

const GROUP: &str = "services";
/// Accounts, each with a key, that ask in turn.
const SERVICES: usize = 64;
const ACCOUNTS: u32 = 20_000;
/// After which an idle process has given back what it needed for its start.
const SETTLED: Duration = Duration::from_secs(3);

pub async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let fixture = Fixture::sqlite(&[])?;
    fixture.start().await?.stop().await?;
    let keys = fixture.service_keys(SERVICES).await?;
    let process = fixture.start().await?;
    let issuing = Side::new(process, ISSUE).await?;
    let requests: Vec<Bytes> = keys.iter().map(|key| frame(&issue(key))).collect();
    let issued: IssueTokenResponse = issuing.client.call(ISSUE, &issue(&keys[0])).await?;
    let bound = Some(Bound::AtLeast(0.8));
    let (rounds, duration) = (
        bench.choose(5, 11),
        Duration::from_millis(bench.choose(350, 1_000)),
    );
    let requests = in_turn(requests);
    let plan = Plan {
        name: "IssueToken by key",
        verifications: 1,
        answer_bytes: issued.encoded_len(),
        rounds,
        duration,
        bound,
    };
    plan.measure(bench, &issuing, || Ok(Source::clone(&requests)))
        .await?;

    let exchanging = Side::new(issuing.process, EXCHANGE).await?;
    let mint = fixture.mint().await?;
    let exchange = |subject_token| ExchangeTokenRequest {
        subject_token,
        actor_token: issued.access_token.clone(),
        ..ExchangeTokenRequest::default()
    };
    let answer: ExchangeTokenResponse = exchanging
        .client
        .call(EXCHANGE, &exchange(mint.token()?))
        .await?;
    let plan = Plan {
        name: "ExchangeToken",
        verifications: 2,
        answer_bytes: answer.encoded_len(),
        ..plan
    };
    // Subject tokens that were never seen before; more than are used in a round.
    let tokens = bench.choose(8_000, 16_000);
    plan.measure(bench, &exchanging, || {
        let requests = (0..tokens).map(|_| Ok(frame(&exchange(mint.token()?))));
        Ok(once(requests.collect::<Result<_>>()?))
    })
    .await?;

    for verifications in [1, 2] {
        let rate = loops::signatures(duration, verifications)?;
        let name = format!("bare loop, {verifications} ES256 verified and one signed, per second");
        bench.report.number(GROUP, &name, rate, None);
    }
    exchanging.process.stop().await?;
    memory(bench).await
}

/// A comparison with an echo that verifies so many signatures and makes one for each call.
#[derive(Clone, Copy)]
struct Plan {
    name: &'static str,
    verifications: u32,
    answer_bytes: usize,
    rounds: usize,
    duration: Duration,
    bound: Option<Bound>,
}

impl Plan {
    async fn measure(
        self,
        bench: &mut Bench<'_>,
        ours: &Side,
        requests: impl Fn() -> Result<Source>,
    ) -> Result<()> {
        let folder = tempfile::tempdir()?;
        let echo =
            Process::echo_that_signs(folder.path(), self.answer_bytes, self.verifications).await?;
        let echo = Side::new(echo, echo::PATH).await?;
        for streams in [16, 64] {
            let drive = async |side: &Side| side.drive(&requests()?, streams, self.duration).await;
            let measured = Rounds::measure(
                self.rounds,
                async || drive(ours).await,
                async || drive(&echo).await,
            )
            .await?;
            let mut line = |figure: usize, name: &str, bound| {
                let name = format!("{}: {name}, {streams} at once", self.name);
                let medians = measured.medians(figure);
                bench
                    .report
                    .compare(GROUP, &name, "echo + ES256", medians, bound);
            };
            line(0, "calls per second", self.bound);
            line(2, "p99, us", None);
            line(3, "server's CPU per call, us", None);
        }
        Ok(())
    }
}

fn issue(key: &str) -> IssueTokenRequest {
    IssueTokenRequest {
        credential: Some(Credential::ServiceKey(key.to_owned())),
        audiences: Vec::new(),
    }
}

/// Resident memory with many accounts, to that with none.
async fn memory(bench: &mut Bench<'_>) -> Result<()> {
    let fixture = Fixture::sqlite(&[])?;
    fixture.start().await?.stop().await?;
    let process = fixture.start().await?;
    sleep(SETTLED).await;
    let idle = process.resident()?;
    process.stop().await?;
    seed::service_accounts(fixture.folder(), ACCOUNTS)?;
    let process = fixture.start().await?;
    sleep(SETTLED).await;
    let more = process.resident()?.saturating_sub(idle);
    bench.report.number(
        GROUP,
        "bytes per service account with a key",
        float(more) / f64::from(ACCOUNTS),
        Some(Bound::AtMost(1_024.0)),
    );
    Ok(())
}

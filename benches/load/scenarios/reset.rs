//! `RequestPasswordReset` for addresses with an account against addresses without: the time of an answer must not tell which is
//! which. One call at a time, by turns, each for an address that was not asked for before, since the second mail within some
//! minutes is left out.

use countersign::{clock::monotonic_now, grpc::pb};

use super::Bench;
use crate::{
    driver::{Client, float},
    error::Result,
    fixture::{CHEAP_HASHES, Fixture, REGISTER, registration},
    measured::Bound,
    rounds::Rounds,
};

const GROUP: &str = "reset";
const REQUEST: &str = "/countersign.auth.v1.AccountService/RequestPasswordReset";
/// Calls before those that are measured.
const WARM_UP: usize = 20;

pub async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let calls = bench.choose(60, 200);
    let fixture = Fixture::sqlite(CHEAP_HASHES)?;
    let process = fixture.start().await?;
    let client = Client::connect(process.address, 1).await?;
    let addresses = |kind: &'static str| {
        // As long as each other.
        (0..WARM_UP + calls).map(move |number| format!("{kind}-{number:04}@example.org"))
    };
    for email in addresses("someone") {
        let _: pb::RegisterResponse = client.call(REGISTER, &registration(&email)).await?;
    }
    let (mut known, mut unknown) = (addresses("someone"), addresses("nobody0"));
    for email in known.by_ref().zip(unknown.by_ref()).take(WARM_UP) {
        micros_of(&client, email.0).await?;
        micros_of(&client, email.1).await?;
    }
    let measured = Rounds::measure(
        calls,
        async || Ok(vec![micros_of(&client, known.next()).await?]),
        async || Ok(vec![micros_of(&client, unknown.next()).await?]),
    )
    .await?;
    for bound in [Bound::AtMost(1.05), Bound::AtLeast(0.95)] {
        bench.report.compare(
            GROUP,
            "us for an answer, with an account",
            "without an account",
            measured.medians(0),
            Some(bound),
        );
    }
    Ok(())
}

/// How long one call takes.
async fn micros_of(client: &Client, email: impl Into<Option<String>>) -> Result<f64> {
    let email = email.into().ok_or("no address is left")?;
    let sent = monotonic_now();
    let request = pb::RequestPasswordResetRequest { email };
    let _: pb::RequestPasswordResetResponse = client.call(REQUEST, &request).await?;
    let nanos = u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX);
    Ok(float(nanos) / 1_000.0)
}

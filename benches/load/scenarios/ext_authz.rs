//! Envoy's `Check`, against an echo whose messages have the same size.

use std::{collections::HashMap, time::Duration};

use countersign::grpc::ext_authz_pb::{
    AttributeContext, CheckRequest, CheckResponse,
    attribute_context::{HttpRequest, Request},
};
use prost::Message as _;

use super::{Bench, validate::Side};
use crate::{
    driver::{frame, in_turn},
    echo,
    error::Result,
    fixture::{CHECK, Fixture},
    measured::Bound,
    process::Process,
    rounds::Rounds,
};

const GROUP: &str = "ext_authz";
/// Access tokens in use.
const TOKENS: usize = 256;

pub async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let rounds = bench.choose(5, 11);
    let duration = Duration::from_millis(bench.choose(350, 1_000));
    let fixture = Fixture::sqlite(&[])?;
    let ours = Side::new(fixture.start().await?, CHECK).await?;
    let mint = fixture.mint().await?;
    let requests = (0..TOKENS).map(|_| Ok(frame(&check(&mint.token()?))));
    let requests = in_turn(requests.collect::<Result<_>>()?);

    let answer: CheckResponse = ours.client.call(CHECK, &check(&mint.token()?)).await?;
    if answer.status.as_ref().is_none_or(|status| status.code != 0) {
        return Err("the request is denied".into());
    }
    let folder = tempfile::tempdir()?;
    // The field that the echo decodes holds all of what Envoy asks, as `Check` decodes it.
    let echo = Process::echo(folder.path(), answer.encoded_len(), None).await?;
    let echo = Side::new(echo, echo::PATH).await?;
    echo.check_size(
        &in_turn(vec![text(&check(&mint.token()?))]),
        answer.encoded_len(),
    )
    .await?;
    let texts = (0..TOKENS).map(|_| Ok(text(&check(&mint.token()?))));
    let texts = in_turn(texts.collect::<Result<_>>()?);
    for streams in [16, 64] {
        let measured = Rounds::measure(
            rounds,
            async || ours.drive(&requests, streams, duration).await,
            async || echo.drive(&texts, streams, duration).await,
        )
        .await?;
        let mut line = |figure: usize, name: &str, bound| {
            let name = format!("Check: {name}, {streams} at once");
            let medians = measured.medians(figure);
            bench.report.compare(GROUP, &name, "echo", medians, bound);
        };
        line(0, "calls per second", Some(Bound::AtLeast(0.9)));
        line(2, "p99, us", None);
        line(3, "server's CPU per call, us", Some(Bound::AtMost(1.15)));
    }
    Ok(())
}

/// What Envoy asks about a browser's request on a route with demands.
fn check(access_token: &str) -> CheckRequest {
    let headers = [
        (":authority", "shop.example.org"),
        (":method", "GET"),
        (":path", "/orders/4711?page=2"),
        (":scheme", "https"),
        ("accept", "application/json"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("authorization", &format!("Bearer {access_token}")),
        (
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
        ),
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "0f6c1e0e-6a41-4d0c-8f2b-3f2f0e6f7a11"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    CheckRequest {
        attributes: Some(AttributeContext {
            request: Some(Request {
                http: Some(HttpRequest {
                    headers: HashMap::from(headers),
                    header_map: None,
                }),
            }),
            context_extensions: HashMap::from([("audience".to_owned(), "countersign".to_owned())]),
        }),
    }
}

/// A message of the same size for the echo.
fn text(request: &CheckRequest) -> bytes::Bytes {
    // A field of this length has three bytes before its text.
    let text = "x".repeat(request.encoded_len() - 3);
    frame(&echo::Text { text })
}

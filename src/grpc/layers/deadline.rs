//! Reads `grpc-timeout` and keeps it.
//!
//! tonic's transport obeys the header too, but it answers `CANCELLED` from outside all layers, so
//! without the request id. This layer is first to see the time run out, answers `DEADLINE_EXCEEDED`
//! as gRPC asks, and shows the deadline to those who queue work.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use http::{Extensions, HeaderMap, HeaderName, Request, Response};
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tonic::Status;
use tower::{Layer, Service};

use crate::clock::monotonic_now;

const HEADER: HeaderName = HeaderName::from_static("grpc-timeout");

/// The moment at which the caller stops waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline of the request with these extensions, if its caller set one.
    pub fn of(extensions: &Extensions) -> Option<Self> {
        extensions.get().copied()
    }

    /// The moment, on the clock of [`monotonic_now`].
    pub const fn instant(self) -> Instant {
        self.0
    }
}

/// Puts a [`Deadline`] into the extensions of each request that has one, and ends it then.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeadlineLayer;

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        DeadlineService { inner }
    }
}

/// The service of [`DeadlineLayer`].
#[derive(Clone, Debug)]
pub struct DeadlineService<S> {
    inner: S,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for DeadlineService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = DeadlineFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let deadline = timeout(request.headers())
            .and_then(|timeout| monotonic_now().checked_add(timeout))
            .map(Deadline);
        if let Some(deadline) = deadline {
            request.extensions_mut().insert(deadline);
        }
        DeadlineFuture {
            inner: self.inner.call(request),
            sleep: deadline.map(|deadline| tokio::time::sleep_until(deadline.0.into())),
        }
    }
}

pin_project! {
    /// The future of [`DeadlineService`].
    #[derive(Debug)]
    pub struct DeadlineFuture<F> {
        #[pin]
        inner: F,
        #[pin]
        sleep: Option<Sleep>,
    }
}

impl<F, E, ResBody> Future for DeadlineFuture<F>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
    ResBody: Default,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(result) = this.inner.poll(cx) {
            return Poll::Ready(result);
        }
        let Some(sleep) = this.sleep.as_pin_mut() else {
            return Poll::Pending;
        };
        ready!(sleep.poll(cx));
        let status = Status::deadline_exceeded("The deadline passed before the work was done.");
        Poll::Ready(Ok(status.into_http()))
    }
}

/// The timeout in the headers; a malformed one counts as none.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    parse(headers.get(HEADER)?.as_bytes())
}

/// Reads `TimeoutValue TimeoutUnit` of the gRPC protocol: 1 to 8 digits and a unit.
fn parse(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value: u64 = str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(value * 3_600)),
        b'M' => Some(Duration::from_secs(value * 60)),
        b'S' => Some(Duration::from_secs(value)),
        b'm' => Some(Duration::from_millis(value)),
        b'u' => Some(Duration::from_micros(value)),
        b'n' => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future};

    use proptest::prelude::*;
    use tonic::{Code, body::Body};
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    #[test]
    fn one_to_eight_digits_and_a_unit_are_a_timeout() {
        for (text, meant) in [
            ("1H", Duration::from_secs(3_600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("4m", Duration::from_millis(4)),
            ("5u", Duration::from_micros(5)),
            ("6n", Duration::from_nanos(6)),
            ("99999999H", Duration::from_secs(99_999_999 * 3_600)),
            ("0S", Duration::ZERO),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(meant), "{text}");
        }
        for nonsense in [
            "",
            "S",
            "1",
            "1s",
            "+1S",
            "-1S",
            "1.5S",
            " 1S",
            "123456789S",
            "\u{663}S",
        ] {
            assert_eq!(parse(nonsense.as_bytes()), None, "{nonsense}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..16)) {
            parse(&bytes);
        }

        #[test]
        fn every_number_of_milliseconds_is_read_back(value in 0_u64..100_000_000) {
            prop_assert_eq!(
                parse(format!("{value}m").as_bytes()),
                Some(Duration::from_millis(value))
            );
        }
    }

    fn request(timeout: Option<&str>) -> Request<()> {
        let mut request = Request::new(());
        if let Some(timeout) = timeout {
            request
                .headers_mut()
                .insert(HEADER, timeout.parse().unwrap());
        }
        request
    }

    #[tokio::test]
    async fn a_request_that_outlasts_its_deadline_is_ended() {
        let stuck = service_fn(|_| future::pending::<Result<Response<Body>, Infallible>>());
        let service = DeadlineLayer.layer(stuck);
        let response = service.oneshot(request(Some("20m"))).await.unwrap();
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn the_deadline_is_shown_only_when_there_is_one() {
        let tell = service_fn(async |request: Request<()>| {
            let mut response = Response::new(Body::empty());
            if let Some(deadline) = Deadline::of(request.extensions()) {
                response.extensions_mut().insert(deadline);
            }
            Ok::<_, Infallible>(response)
        });
        let service = DeadlineLayer.layer(tell);
        for (timeout, shown) in [(Some("5S"), true), (Some("5"), false), (None, false)] {
            let response = service.clone().oneshot(request(timeout)).await.unwrap();
            assert_eq!(Deadline::of(response.extensions()).is_some(), shown);
        }
    }
}

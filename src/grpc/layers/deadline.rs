//! Ends calls at their deadline: that of `grpc-timeout`, and for unary calls also the server's own
//! limit, whichever comes first.
//!
//! tower's time-out has one duration for all requests, and tonic's answers CANCELLED from outside all
//! layers, so without the request id and uncounted. This layer answers DEADLINE_EXCEEDED as gRPC asks,
//! and passes the deadline on, so that work that would finish too late is not started.

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

use super::methods::{self, Kind as MethodKind};
use crate::clock::monotonic_now;

const HEADER: HeaderName = HeaderName::from_static("grpc-timeout");

/// The moment at which a call is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline of the request with these extensions. Calls that are answered from memory, and
    /// streams without `grpc-timeout`, have none.
    pub fn of(extensions: &Extensions) -> Option<Self> {
        extensions.get().copied()
    }

    /// The moment, on the clock of [`monotonic_now`].
    pub const fn instant(self) -> Instant {
        self.0
    }
}

/// Puts the [`Deadline`] into the extensions of requests, and ends their calls then.
#[derive(Clone, Copy, Debug)]
pub struct DeadlineLayer {
    max: Duration,
}

impl DeadlineLayer {
    /// No unary call takes longer than `max`.
    pub const fn new(max: Duration) -> Self {
        Self { max }
    }

    /// How long a call may take; `None`: as long as it wants.
    fn limit<B>(self, request: &Request<B>) -> Limit {
        let asked = timeout(request.headers());
        match methods::find(request.uri().path()) {
            Some(method) if method.kind == MethodKind::Unary => Limit {
                duration: Some(asked.map_or(self.max, |asked| asked.min(self.max))),
                passed_on: asked.is_some() || !method.in_memory,
            },
            _ => Limit {
                duration: asked,
                passed_on: true,
            },
        }
    }
}

struct Limit {
    duration: Option<Duration>,
    /// Whether the service receives the deadline. That costs an allocation, which the hot path avoids.
    passed_on: bool,
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        DeadlineService {
            inner,
            layer: *self,
        }
    }
}

/// The service of [`DeadlineLayer`].
#[derive(Clone, Debug)]
pub struct DeadlineService<S> {
    inner: S,
    layer: DeadlineLayer,
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
        let limit = self.layer.limit(&request);
        let wait = match limit.duration {
            None => Wait::Unlimited,
            // Most calls that are answered from memory end before the clock needs to be read.
            Some(duration) if !limit.passed_on => Wait::Begins { duration },
            Some(duration) => match monotonic_now().checked_add(duration) {
                None => Wait::Unlimited,
                Some(deadline) => {
                    request.extensions_mut().insert(Deadline(deadline));
                    Wait::Until {
                        sleep: tokio::time::sleep_until(deadline.into()),
                    }
                }
            },
        };
        DeadlineFuture {
            inner: self.inner.call(request),
            wait,
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
        wait: Wait,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = WaitProjection]
    enum Wait {
        Unlimited,
        // The time counts from the first moment in which the call is not ready.
        Begins { duration: Duration },
        Until {
            #[pin]
            sleep: Sleep,
        },
    }
}

impl<F, E, ResBody> Future for DeadlineFuture<F>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
    ResBody: Default,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Poll::Ready(result) = this.inner.poll(cx) {
            return Poll::Ready(result);
        }
        if let WaitProjection::Begins { duration } = this.wait.as_mut().project() {
            let sleep = tokio::time::sleep(*duration);
            this.wait.set(Wait::Until { sleep });
        }
        let WaitProjection::Until { sleep } = this.wait.project() else {
            return Poll::Pending;
        };
        ready!(sleep.poll(cx));
        let status = Status::deadline_exceeded("The deadline passed before the call was finished.");
        Poll::Ready(Ok(status.into_http()))
    }
}

/// The `grpc-timeout` of a request; a malformed one counts as none.
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

    const LOGIN: &str = "/countersign.auth.v1.AuthService/Login";
    const VALIDATE: &str = "/countersign.auth.v1.AuthService/ValidateToken";
    const WATCH: &str = "/countersign.auth.v1.VerifierService/WatchRevocations";

    fn request(path: &str, timeout: Option<&str>) -> Request<()> {
        let mut request = Request::builder().uri(path).body(()).unwrap();
        if let Some(timeout) = timeout {
            request
                .headers_mut()
                .insert(HEADER, timeout.parse().unwrap());
        }
        request
    }

    /// Whether a call that never ends by itself is ended soon.
    async fn is_ended(max: u64, path: &str, timeout: Option<&str>) -> bool {
        let stuck = service_fn(|_| future::pending::<Result<Response<Body>, Infallible>>());
        let service = DeadlineLayer::new(Duration::from_millis(max)).layer(stuck);
        let call = service.oneshot(request(path, timeout));
        let Ok(response) = tokio::time::timeout(Duration::from_millis(400), call).await else {
            return false;
        };
        let status = Status::from_header_map(response.unwrap().headers()).unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        true
    }

    #[tokio::test]
    async fn a_call_ends_at_the_callers_deadline_or_the_servers_whichever_is_first() {
        for path in [LOGIN, VALIDATE] {
            assert!(is_ended(60_000, path, Some("20m")).await, "{path}");
            assert!(is_ended(20, path, Some("60S")).await, "{path}");
            assert!(is_ended(20, path, Some("nonsense")).await, "{path}");
            assert!(is_ended(20, path, None).await, "{path}");
            assert!(!is_ended(60_000, path, None).await, "{path}");
        }
    }

    #[tokio::test]
    async fn a_stream_ends_only_at_the_callers_deadline() {
        assert!(!is_ended(20, WATCH, None).await);
        assert!(is_ended(20, WATCH, Some("50m")).await);
    }

    #[tokio::test]
    async fn the_deadline_is_passed_on_to_services() {
        let echo = service_fn(async |request: Request<()>| {
            let mut response = Response::new(Body::empty());
            if let Some(deadline) = Deadline::of(request.extensions()) {
                response.extensions_mut().insert(deadline);
            }
            Ok::<_, Infallible>(response)
        });
        let max = Duration::from_secs(10);
        let service = DeadlineLayer::new(max).layer(echo);
        for (path, timeout, expected) in [
            (LOGIN, Some("5S"), Some(5)),
            (LOGIN, Some("15S"), Some(10)),
            (LOGIN, None, Some(10)),
            (VALIDATE, Some("5S"), Some(5)),
            (VALIDATE, None, None),
            (WATCH, None, None),
            (WATCH, Some("15S"), Some(15)),
        ] {
            let before = monotonic_now();
            let call = service.clone().oneshot(request(path, timeout));
            let deadline = Deadline::of(call.await.unwrap().extensions());
            let left = deadline.map(|deadline| deadline.instant() - before);
            assert_eq!(
                left.map(|left| left.as_secs()),
                expected,
                "{path} {timeout:?}"
            );
        }
    }
}

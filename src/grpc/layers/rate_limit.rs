//! Limits how often one client address may call, with tower-governor.
//!
//! One layer serves all methods: it looks up which limiter counts a call (`methods.rs`) and sends
//! the others straight on, so health, reflection and an unlimited `ValidateToken` pay nothing.

use std::{
    net::{IpAddr, Ipv6Addr},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use governor::{clock::QuantaInstant, middleware::NoOpMiddleware};
use http::{Request, Response};
use pin_project_lite::pin_project;
use tonic::body::Body;
use tower::{Layer, Service};
use tower_governor::{
    GovernorError, GovernorLayer, ResponseFuture,
    governor::{GovernorConfig, GovernorConfigBuilder},
    key_extractor::KeyExtractor,
};

use super::{
    ClientAddress, RequestId,
    methods::{self, Limit},
};
use crate::grpc::{Detail, Reason, status};

/// How often the limiters forget the addresses that have been quiet.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// How many calls one client address may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Calls per second in the long run; 0 = no limit.
    pub per_second: u32,
    /// Calls at once after a pause; at least one.
    pub burst: u32,
}

impl Quota {
    /// No limit.
    pub const OFF: Self = Self {
        per_second: 0,
        burst: 0,
    };
}

/// The limiters, as a layer. Clones share their counts.
#[derive(Clone)]
pub struct RateLimitLayer {
    limiters: Option<Arc<Limiters>>,
}

struct Limiters {
    credential: Option<Limiter>,
    token: Option<Limiter>,
}

type Middleware = NoOpMiddleware<QuantaInstant>;

struct Limiter {
    config: Arc<GovernorConfig<ByClientAddress, Middleware>>,
    governor: GovernorLayer<ByClientAddress, Middleware, Body>,
    /// The time in which one more call is allowed. A refused call has to wait no longer than that.
    interval: Duration,
}

impl RateLimitLayer {
    /// The limiters for the calls in which secrets can be guessed, and for those with tokens.
    pub fn new(credential: Quota, token: Quota) -> Self {
        let limiters = Limiters {
            credential: Limiter::new(credential),
            token: Limiter::new(token),
        };
        let any = limiters.credential.is_some() || limiters.token.is_some();
        Self {
            limiters: any.then(|| Arc::new(limiters)),
        }
    }

    /// Forgets addresses that have been quiet, until `stop`. Returns at once when nothing is limited.
    pub async fn sweep_until(self, stop: impl Future<Output = ()>) {
        let Some(limiters) = self.limiters else {
            return;
        };
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(SWEEP_INTERVAL) => limiters.sweep(),
            }
        }
    }
}

impl Limiters {
    fn of(&self, limit: Limit) -> Option<&Limiter> {
        match limit {
            Limit::Credential => self.credential.as_ref(),
            Limit::Token => self.token.as_ref(),
        }
    }

    fn sweep(&self) {
        for limiter in [&self.credential, &self.token].into_iter().flatten() {
            limiter.config.limiter().retain_recent();
            limiter.config.limiter().shrink_to_fit();
        }
    }
}

impl Limiter {
    fn new(quota: Quota) -> Option<Self> {
        let interval = Duration::from_secs(1)
            .checked_div(quota.per_second)?
            .max(Duration::from_nanos(1));
        let config = GovernorConfigBuilder::default()
            .period(interval)
            .burst_size(quota.burst.max(1))
            .key_extractor(ByClientAddress)
            .finish()?;
        let config = Arc::new(config);
        let governor = GovernorLayer::new(Arc::clone(&config)).error_handler(refusal);
        Some(Self {
            config,
            governor,
            interval,
        })
    }
}

/// Counts by [`ClientAddress::rate_key`]. Callers without an address, which TCP does not have, share
/// one count.
#[derive(Clone, Copy, Debug)]
struct ByClientAddress;

impl KeyExtractor for ByClientAddress {
    type Key = IpAddr;

    fn extract<T>(&self, request: &Request<T>) -> Result<Self::Key, GovernorError> {
        Ok(ClientAddress::of(request.extensions())
            .map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), ClientAddress::rate_key))
    }
}

/// Marks the governor's answer: its handler is not told which request it refuses, so the status
/// with the request's id is put in its place by [`RateLimitFuture`].
#[derive(Clone, Copy)]
struct Refused;

fn refusal(_: GovernorError) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(Refused);
    response
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimitService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimitService {
            inner,
            limiters: self.limiters.clone(),
        }
    }
}

/// The service of [`RateLimitLayer`].
#[derive(Clone)]
pub struct RateLimitService<S> {
    inner: S,
    limiters: Option<Arc<Limiters>>,
}

impl<S, ReqBody> Service<Request<ReqBody>> for RateLimitService<S>
where
    S: Service<Request<ReqBody>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = RateLimitFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let limiter = self.limiters.as_deref().and_then(|limiters| {
            let limit = methods::find(request.uri().path()).limit?;
            limiters.of(limit)
        });
        let kind = match limiter {
            None => Kind::Free {
                inner: self.inner.call(request),
            },
            // The governor is put around the inner service for this one call: around a copy of it,
            // every request would pay for one more clone of the whole router.
            Some(limiter) => Kind::Counted {
                request_id: RequestId::of(request.extensions()),
                interval: limiter.interval,
                inner: limiter.governor.layer(&mut self.inner).call(request),
            },
        };
        RateLimitFuture { kind }
    }
}

pin_project! {
    /// The future of [`RateLimitService`].
    pub struct RateLimitFuture<F> {
        #[pin]
        kind: Kind<F>,
    }
}

pin_project! {
    #[project = Projection]
    enum Kind<F> {
        // Nobody counts this call.
        Free {
            #[pin]
            inner: F,
        },
        // The governor has judged this call.
        Counted {
            #[pin]
            inner: ResponseFuture<F, Body>,
            request_id: RequestId,
            interval: Duration,
        },
    }
}

impl<F, E> Future for RateLimitFuture<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            Projection::Free { inner } => inner.poll(cx),
            Projection::Counted {
                inner,
                request_id,
                interval,
            } => {
                let response = ready!(inner.poll(cx))?;
                if response.extensions().get::<Refused>().is_none() {
                    return Poll::Ready(Ok(response));
                }
                let detail = Detail::RetryAfter(*interval);
                let status = status(Reason::RateLimited, request_id, detail);
                Poll::Ready(Ok(status.into_http()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tonic::Status;
    use tonic_types::StatusExt as _;
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    const LOGIN: &str = "/countersign.auth.v1.AuthService/Login";
    const VALIDATE: &str = "/countersign.auth.v1.AuthService/ValidateToken";

    async fn call(layer: &RateLimitLayer, path: &str, from: &str) -> Option<Status> {
        let inner = service_fn(async |_| Ok::<_, Infallible>(Response::new(Body::empty())));
        let mut request = Request::builder().uri(path).body(()).unwrap();
        let address: IpAddr = from.parse().unwrap();
        request
            .extensions_mut()
            .insert(ClientAddress::from(address));
        let response = layer.layer(inner).oneshot(request).await.unwrap();
        Status::from_header_map(response.headers())
    }

    fn layer(credential: u32, token: u32) -> RateLimitLayer {
        let quota = |per_second| Quota {
            per_second,
            burst: 2,
        };
        RateLimitLayer::new(quota(credential), quota(token))
    }

    #[tokio::test]
    async fn each_limiter_counts_its_own_methods_per_address() {
        let layer = layer(1, 1);
        for path in [LOGIN, VALIDATE] {
            assert!(call(&layer, path, "192.0.2.1").await.is_none());
            assert!(call(&layer, path, "192.0.2.1").await.is_none());
            let status = call(&layer, path, "192.0.2.1").await.unwrap();
            let details = status.get_error_details();
            assert_eq!(details.error_info().unwrap().reason, "RATE_LIMITED");
            let delay = details.retry_info().unwrap().retry_delay;
            assert_eq!(delay, Some(Duration::from_secs(1)));
            assert!(call(&layer, path, "192.0.2.2").await.is_none());
        }
        let health = "/grpc.health.v1.Health/Check";
        for _ in 0..10 {
            assert!(call(&layer, health, "192.0.2.1").await.is_none());
        }
    }

    #[tokio::test]
    async fn a_rate_of_zero_is_no_limit() {
        assert!(layer(0, 0).limiters.is_none());
        let layer = layer(1, 0);
        for _ in 0..10 {
            assert!(call(&layer, VALIDATE, "192.0.2.1").await.is_none());
        }
    }

    #[tokio::test]
    async fn one_ipv6_network_is_one_client() {
        let layer = layer(1, 0);
        assert!(call(&layer, LOGIN, "2001:db8::1").await.is_none());
        assert!(call(&layer, LOGIN, "2001:db8::2").await.is_none());
        assert!(call(&layer, LOGIN, "2001:db8::3").await.is_some());
    }

    #[tokio::test]
    async fn waiting_as_told_is_enough_and_the_quiet_are_forgotten() {
        let layer = layer(100, 0);
        while call(&layer, LOGIN, "192.0.2.1").await.is_none() {}
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(call(&layer, LOGIN, "192.0.2.1").await.is_none());

        let limiters = layer.limiters.as_deref().unwrap();
        let limiter = limiters.credential.as_ref().unwrap().config.limiter();
        assert_eq!(limiter.len(), 1);
        tokio::time::sleep(Duration::from_millis(50)).await;
        limiters.sweep();
        assert_eq!(limiter.len(), 0);
    }

    #[tokio::test]
    async fn the_sweeper_stops_when_told() {
        layer(1, 1).sweep_until(std::future::ready(())).await;
        layer(0, 0).sweep_until(std::future::pending()).await;
    }
}

//! Limits how often one client address may call, with tower-governor.
//!
//! `routes` puts one governor around all methods of the credential group and another around those of
//! the token group; the table of methods says which group a method is in.

use std::{
    net::{IpAddr, Ipv6Addr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use governor::{clock::QuantaInstant, middleware::NoOpMiddleware};
use http::Request;
use tonic::body::Body;
use tower_governor::{
    GovernorError, GovernorLayer,
    governor::{GovernorConfig, GovernorConfigBuilder},
    key_extractor::KeyExtractor,
};

use super::{ClientAddress, methods::Limit};
use crate::grpc::{Detail, PendingStatus, Reason};

/// How often addresses that have not called for a while are forgotten.
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

/// The rate limits. Clones share their counts.
#[derive(Clone)]
pub struct RateLimits {
    groups: Arc<Groups>,
}

struct Groups {
    credential: Option<Group>,
    token: Option<Group>,
}

type Middleware = NoOpMiddleware<QuantaInstant>;

/// The layer of one group; all services that it is put around share its counts.
pub(in crate::grpc) type Governor = GovernorLayer<ByClientAddress, Middleware, Body>;

struct Group {
    config: Arc<GovernorConfig<ByClientAddress, Middleware>>,
    governor: Governor,
}

impl RateLimits {
    /// The limits for calls that test a guess, and for calls that present a token.
    pub fn new(credential: Quota, token: Quota) -> Self {
        let groups = Groups {
            credential: Group::new(credential),
            token: Group::new(token),
        };
        Self {
            groups: Arc::new(groups),
        }
    }

    /// The layer for the methods of a group; `None`: they are not limited.
    pub(in crate::grpc) fn governor(&self, limit: Limit) -> Option<&Governor> {
        let group = match limit {
            Limit::Credential => &self.groups.credential,
            Limit::Token => &self.groups.token,
        };
        group.as_ref().map(|group| &group.governor)
    }

    /// Forgets addresses that have not called for a while, until `stop`. Returns at once when
    /// nothing is limited.
    pub async fn sweep_until(self, stop: impl Future<Output = ()>) {
        let Groups { credential, token } = &*self.groups;
        if credential.is_none() && token.is_none() {
            return;
        }
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(SWEEP_INTERVAL) => self.sweep(),
            }
        }
    }

    fn sweep(&self) {
        let Groups { credential, token } = &*self.groups;
        for group in [credential, token].into_iter().flatten() {
            group.config.limiter().retain_recent();
            group.config.limiter().shrink_to_fit();
        }
    }
}

impl Group {
    fn new(quota: Quota) -> Option<Self> {
        // The time after which one more call is allowed: no refused call has to wait longer.
        let interval = Duration::from_secs(1)
            .checked_div(quota.per_second)?
            .max(Duration::from_nanos(1));
        let config = GovernorConfigBuilder::default()
            .period(interval)
            .burst_size(quota.burst.max(1))
            .key_extractor(ByClientAddress)
            .finish()?;
        let config = Arc::new(config);
        let governor = GovernorLayer::new(Arc::clone(&config)).error_handler(move |_| {
            PendingStatus {
                reason: Reason::RateLimited,
                detail: Detail::RetryAfter(interval),
            }
            .into_response()
        });
        Some(Self { config, governor })
    }
}

/// Counts by [`ClientAddress::rate_key`]. Callers without an address share one count; over TCP there
/// are none.
#[derive(Clone, Copy, Debug)]
pub(in crate::grpc) struct ByClientAddress;

impl KeyExtractor for ByClientAddress {
    type Key = IpAddr;

    fn extract<T>(&self, request: &Request<T>) -> Result<Self::Key, GovernorError> {
        Ok(ClientAddress::of(request.extensions())
            .map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), ClientAddress::rate_key))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::Response;
    use tonic::{Code, Status};
    use tower::{Layer as _, ServiceExt as _, service_fn};

    use super::*;

    /// Calls a method of a group; whether it was let through.
    async fn call(limits: &RateLimits, limit: Limit, from: &str) -> bool {
        let inner = service_fn(async |_| Ok::<_, Infallible>(Response::new(Body::empty())));
        let Some(governor) = limits.governor(limit) else {
            return true;
        };
        let mut request = Request::new(());
        let address: IpAddr = from.parse().unwrap();
        request
            .extensions_mut()
            .insert(ClientAddress::from(address));
        let response = governor.layer(inner).oneshot(request).await.unwrap();
        let Some(status) = Status::from_header_map(response.headers()) else {
            return true;
        };
        assert_eq!(status.code(), Code::ResourceExhausted);
        let pending = response.extensions().get::<PendingStatus>().unwrap();
        assert_eq!(pending.reason, Reason::RateLimited);
        assert!(matches!(pending.detail, Detail::RetryAfter(_)));
        false
    }

    fn limits(credential: u32, token: u32) -> RateLimits {
        let quota = |per_second| Quota {
            per_second,
            burst: 2,
        };
        RateLimits::new(quota(credential), quota(token))
    }

    #[tokio::test]
    async fn each_group_counts_its_own_calls_per_address() {
        let limits = limits(1, 1);
        for limit in [Limit::Credential, Limit::Token] {
            assert!(call(&limits, limit, "192.0.2.1").await);
            assert!(call(&limits, limit, "192.0.2.1").await);
            assert!(!call(&limits, limit, "192.0.2.1").await);
            assert!(call(&limits, limit, "192.0.2.2").await);
        }
    }

    #[tokio::test]
    async fn a_rate_of_zero_is_no_limit() {
        let limits = limits(1, 0);
        for _ in 0..10 {
            assert!(call(&limits, Limit::Token, "192.0.2.1").await);
        }
    }

    #[tokio::test]
    async fn addresses_of_one_ipv6_network_share_a_count() {
        let limits = limits(1, 0);
        assert!(call(&limits, Limit::Credential, "2001:db8::1").await);
        assert!(call(&limits, Limit::Credential, "2001:db8::2").await);
        assert!(!call(&limits, Limit::Credential, "2001:db8::3").await);
    }

    #[tokio::test]
    async fn one_interval_after_a_refusal_the_next_call_passes_and_idle_addresses_are_forgotten() {
        let limits = limits(100, 0);
        while call(&limits, Limit::Credential, "192.0.2.1").await {}
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(call(&limits, Limit::Credential, "192.0.2.1").await);

        let limiter = limits.groups.credential.as_ref().unwrap().config.limiter();
        assert_eq!(limiter.len(), 1);
        tokio::time::sleep(Duration::from_millis(50)).await;
        limits.sweep();
        assert_eq!(limiter.len(), 0);
    }

    #[tokio::test]
    async fn sweeping_ends_when_stopped_or_when_nothing_is_limited() {
        limits(1, 1).sweep_until(std::future::ready(())).await;
        limits(0, 0).sweep_until(std::future::pending()).await;
    }
}

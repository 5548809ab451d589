//! Limits how often one client address may call the OAuth endpoints: at the rate of the gRPC calls that present a token.
//!
//! Not by client id, because anybody can send any client id and would lock out its owner. Failures count like
//! all calls and lock nobody out; a service key has 256 random bits, so no limit has to protect it from guesses. A refused
//! call is not counted (GCRA), so clients that repeat at once do not extend the limit, and it is refused before its body is
//! read.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::Arc,
};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};

use super::error::OAuthError;
use crate::{config::Rate, telemetry::LimitRefusal};

/// Addresses share this many counts, which bounds the memory (some 5 MB). The hash is keyed: nobody can choose with whom.
const COUNTS: u64 = 65_536;

/// The limiter. Clones share their counts.
#[derive(Clone)]
pub(super) struct AddressLimit(Option<Arc<Limiter>>);

struct Limiter {
    counts: DefaultKeyedRateLimiter<u64>,
    clock: DefaultClock,
    hasher: RandomState,
}

impl AddressLimit {
    /// Lets each address call at this rate; `None` is no limit.
    pub(super) fn new(rate: Option<Rate>) -> Self {
        Self(rate.map(|rate| {
            let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
            Arc::new(Limiter {
                counts: RateLimiter::keyed(quota),
                clock: DefaultClock::default(),
                hasher: RandomState::new(),
            })
        }))
    }

    /// Counts a call.
    ///
    /// # Errors
    /// 429, when the address has called too often.
    pub(super) fn admit(&self, address: IpAddr) -> Result<(), OAuthError> {
        let Some(limiter) = &self.0 else {
            return Ok(());
        };
        let count = limiter.hasher.hash_one(address) % COUNTS;
        limiter.counts.check_key(&count).map_err(|refused| {
            LimitRefusal::RateLimited.count();
            OAuthError::too_many_requests(refused.wait_time_from(limiter.clock.now()))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn an_address_beyond_its_burst_is_refused_and_refusals_do_not_extend_the_limit() {
        let one = NonZeroU32::MIN;
        let rate = Rate {
            per_second: NonZeroU32::new(1).unwrap(),
            burst: one,
        };
        let limit = AddressLimit::new(Some(rate));
        assert_eq!(limit.admit(ADDRESS), Ok(()));
        let mut waits = Vec::new();
        for _ in 0..100 {
            let refused = limit.admit(ADDRESS).unwrap_err();
            assert_eq!(refused.status.as_u16(), 429);
            waits.push(refused.retry_after.unwrap());
        }
        assert!(waits.is_sorted_by(|earlier, later| earlier >= later));
        assert_eq!(limit.admit("192.0.2.1".parse().unwrap()), Ok(()));
    }

    #[test]
    fn without_a_rate_there_is_no_limit() {
        let limit = AddressLimit::new(None);
        assert!((0..1_000).all(|_| limit.admit(ADDRESS).is_ok()));
    }
}

//! Limits how often one user may call `AccountService`, by the user id of the verified access token.
//!
//! `layers::AuthorizationLayer` counts the calls: the user is known only after the token was validated.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};

use crate::{auth::AuthError, config::Rate, domain::UserId};

/// Users counted one by one. All others share [`SHARED`] counts, so that memory is bounded (some 10 MB).
const MOST_USERS: usize = 100_000;

/// Counts for users beyond those.
const SHARED: u64 = 4_096;

/// How long a refusal is held back: a caller that calls again at once, whatever it is told, gets no more than ten of them a
/// second on each stream, and leaves the processor to others.
const REFUSAL_DELAY: Duration = Duration::from_millis(100);

/// How often users who have been quiet are forgotten.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// Whose calls are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    User(UserId),
    Shared(u64),
}

/// The limiter. Clones share their counts.
#[derive(Clone)]
pub struct UserRateLimit(Option<Arc<Limiter>>);

struct Limiter {
    users: DefaultKeyedRateLimiter<Key>,
    clock: DefaultClock,
    most_users: usize,
    hasher: RandomState,
}

impl UserRateLimit {
    /// Lets each user call at this rate; `None` is no limit.
    pub fn new(rate: Option<Rate>) -> Self {
        Self(rate.map(|rate| Arc::new(Limiter::new(rate, MOST_USERS))))
    }

    /// Counts a call, and holds its refusal back.
    ///
    /// # Errors
    /// [`AuthError::RateLimited`] when the user has called too often.
    pub(super) async fn admit(&self, user: UserId) -> Result<(), AuthError> {
        let checked = self.check(user);
        if checked.is_err() {
            tokio::time::sleep(REFUSAL_DELAY).await;
        }
        checked
    }

    fn check(&self, user: UserId) -> Result<(), AuthError> {
        self.0
            .as_deref()
            .map_or(Ok(()), |limiter| limiter.check(user))
    }

    /// Forgets users who have been quiet, until `stop`. Returns at once when nothing is limited.
    pub async fn sweep_until(self, stop: impl Future<Output = ()>) {
        let Some(limiter) = self.0 else {
            return;
        };
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(SWEEP_INTERVAL) => limiter.sweep(),
            }
        }
    }
}

impl Limiter {
    fn new(rate: Rate, most_users: usize) -> Self {
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
        Self {
            users: RateLimiter::keyed(quota),
            clock: DefaultClock::default(),
            most_users,
            hasher: RandomState::new(),
        }
    }

    fn check(&self, user: UserId) -> Result<(), AuthError> {
        let key = if self.users.len() < self.most_users {
            Key::User(user)
        } else {
            Key::Shared(self.hasher.hash_one(user) % SHARED)
        };
        self.users
            .check_key(&key)
            .map_err(|refused| AuthError::RateLimited {
                retry_after: refused.wait_time_from(self.clock.now()),
            })
    }

    fn sweep(&self) {
        self.users.retain_recent();
        self.users.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::clock::Timestamp;

    fn user() -> UserId {
        UserId::generate(Timestamp::from_seconds(1))
    }

    fn limiter(per_second: u32, burst: u32, most_users: usize) -> Limiter {
        let rate = Rate {
            per_second: NonZeroU32::new(per_second).unwrap(),
            burst: NonZeroU32::new(burst).unwrap(),
        };
        Limiter::new(rate, most_users)
    }

    #[test]
    fn each_user_has_a_burst_and_gets_a_retry_delay() {
        let limiter = limiter(1, 3, 10);
        let (ada, bob) = (user(), user());
        for _ in 0..3 {
            limiter.check(ada).unwrap();
        }
        let Err(AuthError::RateLimited { retry_after }) = limiter.check(ada) else {
            panic!("the fourth call is let through");
        };
        assert!(retry_after > Duration::ZERO && retry_after <= Duration::from_secs(1));
        limiter.check(bob).unwrap();
    }

    #[tokio::test]
    async fn counters_are_bounded_and_idle_users_are_removed() {
        let limiter = limiter(100, 1, 10);
        for _ in 0..20_000 {
            let _ = limiter.check(user());
        }
        let bound = 10 + usize::try_from(SHARED).unwrap();
        assert!(limiter.users.len() <= bound, "{}", limiter.users.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
        limiter.sweep();
        assert_eq!(limiter.users.len(), 0);
    }

    #[test]
    fn without_a_rate_nobody_is_refused() {
        let limit = UserRateLimit::new(None);
        let ada = user();
        for _ in 0..1_000 {
            limit.check(ada).unwrap();
        }
    }
}

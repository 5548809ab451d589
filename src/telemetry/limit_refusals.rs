//! Calls that were refused because of a limit, counted by reason. The codes of gRPC do not tell them apart:
//! `RESOURCE_EXHAUSTED` and `UNAVAILABLE` have other reasons, too.

use std::sync::atomic::{AtomicU64, Ordering};

/// Which limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitRefusal {
    /// A client, a user or all together do something too often.
    RateLimited,
    /// There were too many wrong passwords or codes for one account.
    AccountThrottled,
    /// The server is busy: hashing, calls at once, or the memory for requests.
    Overloaded,
}

static COUNTS: [AtomicU64; LimitRefusal::ALL.len()] =
    [const { AtomicU64::new(0) }; LimitRefusal::ALL.len()];

impl LimitRefusal {
    const ALL: [Self; 3] = [Self::RateLimited, Self::AccountThrottled, Self::Overloaded];

    /// The reason in metrics, which is that of the API.
    const fn name(self) -> &'static str {
        match self {
            Self::RateLimited => "RATE_LIMITED",
            Self::AccountThrottled => "ACCOUNT_THROTTLED",
            Self::Overloaded => "OVERLOADED",
        }
    }

    /// Counts one.
    pub fn count(self) {
        COUNTS[self as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many calls this process has refused, by reason.
    pub fn counts() -> impl Iterator<Item = (&'static str, u64)> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Self::ALL
            .iter()
            .zip(&COUNTS)
            .map(move |(refusal, count)| (refusal.name(), read(count)))
    }
}

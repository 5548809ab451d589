//! CPU time under a limit, and how much of it hashing leaves to requests.
//!
//! A control group's limit (a CPU limit in Kubernetes) is so much CPU time in every tenth of a second. A process that
//! has used it up is stopped until the next one begins, whatever the priorities of its threads: one hash that outlasts
//! the limit keeps every validation waiting. So a worker rests after a hash until the process is within the limit.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The part of the limit that may be used on average: some tenths of a second are busier than others.
const USABLE: f64 = 0.9;

/// The longest rest: where other work alone needs more than there is, somebody must still be able to log in.
const LONGEST: Duration = Duration::from_millis(200);

/// What the process may use, and what it has used.
pub(super) struct Budget {
    /// Cores' worth of CPU time.
    usable: f64,
    account: Mutex<Account>,
}

struct Account {
    settled: Instant,
    /// CPU time of the process at that moment.
    used: Duration,
    /// CPU time beyond what was granted until then.
    debt: Duration,
}

impl Budget {
    /// With a limit of so many cores' worth of CPU time; `used` is what the process has used until now.
    pub fn new(limit: f64, now: Instant, used: Duration) -> Self {
        Self {
            usable: limit * USABLE,
            account: Mutex::new(Account {
                settled: now,
                used,
                debt: Duration::ZERO,
            }),
        }
    }

    /// How long nothing should be hashed now, when the process has used `used` since its start.
    pub fn rest(&self, now: Instant, used: Duration) -> Duration {
        let usable = self.usable;
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        let spent = used.saturating_sub(account.used);
        let granted = now
            .saturating_duration_since(account.settled)
            .mul_f64(usable);
        // What was granted and not used is gone; so it is with the control group.
        let debt = (account.debt + spent)
            .saturating_sub(granted)
            .min(LONGEST.mul_f64(usable));
        // Whoever looked at the clock before another did, and came here after, must not turn it back.
        *account = Account {
            settled: now.max(account.settled),
            used: used.max(account.used),
            debt,
        };
        debt.div_f64(usable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::monotonic_now;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// How long a worker rests after each step of so many milliseconds, and so many of CPU time in it.
    fn rests(limit: f64, steps: &[(u64, u64)]) -> Vec<u128> {
        let start = monotonic_now();
        let budget = Budget::new(limit, start, millis(500));
        let (mut now, mut used) = (start, millis(500));
        let mut rest = |&(passed, spent)| {
            now += millis(passed);
            used += millis(spent);
            budget.rest(now, used).as_millis()
        };
        steps.iter().map(&mut rest).collect()
    }

    #[test]
    fn who_stays_within_the_limit_never_rests() {
        assert_eq!(rests(1.0, &[(100, 90), (100, 0), (10, 9)]), [0, 0, 0]);
        assert_eq!(rests(2.5, &[(100, 225)]), [0]);
    }

    #[test]
    fn what_goes_beyond_it_is_made_up_for() {
        // 90 ms are granted in 100 ms: 45 ms more take 50 ms, in which nothing may be used.
        assert_eq!(rests(1.0, &[(100, 135), (50, 0)]), [50, 0]);
        // What others use meanwhile is made up for after the next hash.
        assert_eq!(rests(1.0, &[(100, 135), (50, 45)]), [50, 50]);
        assert_eq!(rests(0.5, &[(100, 90)]), [100]);
    }

    #[test]
    fn what_was_not_used_cannot_be_saved_up() {
        assert_eq!(rests(1.0, &[(10_000, 0), (100, 135)]), [0, 50]);
    }

    #[test]
    fn no_rest_is_longer_than_a_login_can_wait() {
        assert_eq!(rests(1.0, &[(100, 90_000), (200, 0)]), [200, 0]);
    }
}

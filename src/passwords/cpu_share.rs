//! Leaves CPU time to requests: how many workers may hash at once, and how long they pause under a CPU limit.
//!
//! A low scheduling priority is not enough. A request that arrives at a core that is hashing has to get that core first,
//! and may wait for the next timer tick. So, while tokens are validated, one core is left without hashing.
//!
//! A CPU limit of a control group (in Kubernetes: `resources.limits.cpu`) is an amount of CPU time in every tenth of a
//! second. The kernel stops a process that has used it up until the next tenth, whatever the priorities of its threads. With a
//! limit of about one core there is no second core to leave free, so workers pause between hashes until the process is
//! within the limit. Decision 0703 has the measurements.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// How long after a request others are expected to follow. Single requests cost logins next to nothing.
pub(super) const REQUEST_WINDOW: Duration = Duration::from_millis(100);

/// The part of the limit that may be used on average: some tenths of a second are busier than others.
const USABLE: f64 = 0.9;

/// The longest pause: where other work alone needs more than the limit, users must still be able to log in.
const MAX_PAUSE: Duration = Duration::from_millis(200);

/// How many workers there are, and how many of them may hash while requests arrive.
pub(super) struct CpuShare {
    workers: usize,
    workers_beside_requests: usize,
    start: Instant,
    /// Until when requests are expected, in milliseconds since `start`.
    requests_until: AtomicU64,
    /// Where the CPU time is limited.
    limit: Option<CpuLimit>,
}

impl CpuShare {
    /// That many workers on that many cores. One may always hash.
    pub fn new(workers: usize, cores: usize, start: Instant) -> Self {
        Self {
            workers,
            workers_beside_requests: workers.min(cores.saturating_sub(1)).max(1),
            start,
            requests_until: AtomicU64::new(0),
            limit: None,
        }
    }

    /// The same under a limit of CPU time.
    pub fn within(self, limit: Option<CpuLimit>) -> Self {
        Self { limit, ..self }
    }

    /// How many workers there are.
    pub const fn workers(&self) -> usize {
        self.workers
    }

    /// How many workers may hash at this moment.
    pub fn allowed(&self, now: Instant) -> usize {
        if self.requests_arrive(now) {
            self.workers_beside_requests
        } else {
            self.workers
        }
    }

    /// How long no further hash should begin after one has ended. `used` is the CPU time of the process since its start.
    pub fn pause(&self, now: Instant, used: Duration) -> Duration {
        let Some(limit) = &self.limit else {
            return Duration::ZERO;
        };
        let pause = limit.pause(now, used);
        if self.requests_arrive(now) {
            pause
        } else {
            Duration::ZERO
        }
    }

    /// A request has arrived that must not wait for a core.
    pub fn request_arrived(&self, now: Instant) {
        let until = self.millis(now + REQUEST_WINDOW);
        // Most requests find the value already there, and reading alone does not move the cache line between cores.
        if self.requests_until.load(Relaxed) != until {
            self.requests_until.store(until, Relaxed);
        }
    }

    fn requests_arrive(&self, now: Instant) -> bool {
        self.millis(now) < self.requests_until.load(Relaxed)
    }

    fn millis(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.start);
        since.as_secs() * 1_000 + u64::from(since.subsec_millis())
    }
}

/// A limit of CPU time, and by how much the process has exceeded its usable part.
pub(super) struct CpuLimit {
    /// CPU time that may be used in a second, in cores.
    usable: f64,
    account: Mutex<Account>,
}

struct Account {
    updated: Instant,
    /// CPU time of the process at that moment.
    used: Duration,
    /// CPU time used beyond the usable part until then.
    excess: Duration,
}

impl CpuLimit {
    /// A limit of that many cores; `used` is the CPU time of the process until now.
    pub fn new(cores: f64, now: Instant, used: Duration) -> Self {
        Self {
            usable: cores * USABLE,
            account: Mutex::new(Account {
                updated: now,
                used,
                excess: Duration::ZERO,
            }),
        }
    }

    fn pause(&self, now: Instant, used: Duration) -> Duration {
        let usable = self.usable;
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        let spent = used.saturating_sub(account.used);
        let granted = now
            .saturating_duration_since(account.updated)
            .mul_f64(usable);
        // Time granted and not used is lost, as it is in the control group.
        let excess = (account.excess + spent)
            .saturating_sub(granted)
            .min(MAX_PAUSE.mul_f64(usable));
        // Two workers may arrive here in another order than they read the clocks.
        *account = Account {
            updated: now.max(account.updated),
            used: used.max(account.used),
            excess,
        };
        excess.div_f64(usable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::monotonic_now;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// The pauses after steps of (milliseconds passed, milliseconds of CPU time used).
    fn pauses(cores: f64, steps: &[(u64, u64)]) -> Vec<u128> {
        let start = monotonic_now();
        let limit = CpuLimit::new(cores, start, millis(500));
        let (mut now, mut used) = (start, millis(500));
        let mut pause = |&(passed, spent)| {
            now += millis(passed);
            used += millis(spent);
            limit.pause(now, used).as_millis()
        };
        steps.iter().map(&mut pause).collect()
    }

    #[test]
    fn no_pause_within_the_limit() {
        assert_eq!(pauses(1.0, &[(100, 90), (100, 0), (10, 9)]), [0, 0, 0]);
        assert_eq!(pauses(2.5, &[(100, 225)]), [0]);
    }

    #[test]
    fn a_pause_compensates_cpu_time_beyond_the_limit() {
        // 90 ms are granted in 100 ms: 45 ms more take 50 ms, in which nothing may be used.
        assert_eq!(pauses(1.0, &[(100, 135), (50, 0)]), [50, 0]);
        // What other threads use meanwhile is made up for after the next hash.
        assert_eq!(pauses(1.0, &[(100, 135), (50, 45)]), [50, 50]);
        assert_eq!(pauses(0.5, &[(100, 90)]), [100]);
    }

    #[test]
    fn unused_cpu_time_is_not_carried_over() {
        assert_eq!(pauses(1.0, &[(10_000, 0), (100, 135)]), [0, 50]);
    }

    #[test]
    fn no_pause_is_longer_than_the_maximum() {
        assert_eq!(pauses(1.0, &[(100, 90_000), (200, 0)]), [200, 0]);
    }

    #[test]
    fn one_core_is_left_to_requests_while_they_arrive() {
        let start = monotonic_now();
        let share = CpuShare::new(4, 4, start);
        assert_eq!(share.allowed(start), 4);
        share.request_arrived(start);
        assert_eq!(share.allowed(start), 3);
        assert_eq!(share.allowed(start + REQUEST_WINDOW / 2), 3);
        assert_eq!(share.allowed(start + REQUEST_WINDOW), 4);
        share.request_arrived(start + REQUEST_WINDOW);
        assert_eq!(share.allowed(start + REQUEST_WINDOW), 3);
    }

    #[test]
    fn workers_pause_only_while_requests_arrive() {
        let start = monotonic_now();
        let later = |passed| start + millis(passed);
        let limit = CpuLimit::new(0.5, start, millis(0));
        let share = CpuShare::new(1, 1, start).within(Some(limit));
        assert_eq!(share.pause(later(40), millis(36)), Duration::ZERO);
        share.request_arrived(later(40));
        assert_eq!(share.pause(later(80), millis(54)).as_millis(), 40);
        let unlimited = CpuShare::new(1, 1, start);
        unlimited.request_arrived(start);
        assert_eq!(unlimited.pause(later(40), millis(80)), Duration::ZERO);
    }

    #[test]
    fn workers_are_not_held_back_if_one_core_is_free_anyway() {
        let beside_requests = |workers, cores| {
            let start = monotonic_now();
            let share = CpuShare::new(workers, cores, start);
            share.request_arrived(start);
            share.allowed(start)
        };
        assert_eq!(beside_requests(3, 8), 3);
        assert_eq!(beside_requests(8, 8), 7);
        assert_eq!(beside_requests(9, 2), 1);
        assert_eq!(beside_requests(1, 1), 1, "one may always hash");
    }
}

//! How many workers may hash at once: one fewer than there are cores, while tokens are validated.
//!
//! A low priority does not make up for a core that is free. A request that comes to a core that hashes has to get it
//! first; one that was interrupted there may have to wait for the next tick of the clock. And where a control group
//! limits the CPU time, hashing on every core uses it up at whatever priority; a limit of about a core one hash after
//! another uses up as well, hence the rests ([`Budget`]).

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use super::budget::Budget;

/// How long after a request the next one is expected. Twenty requests a second are traffic; one now and then costs the
/// logins next to nothing.
pub(super) const LASTING: Duration = Duration::from_millis(100);

/// How many workers there are, and how many of them may hash while requests come.
pub(super) struct Workers {
    all: usize,
    beside_requests: usize,
    start: Instant,
    /// When the traffic will have ended, in milliseconds since `start`.
    lasts_until: AtomicU64,
    /// Where the CPU time is limited.
    budget: Option<Budget>,
}

impl Workers {
    /// So many workers, on so many cores. One may always hash.
    pub fn new(all: usize, cores: usize, start: Instant) -> Self {
        Self {
            all,
            beside_requests: all.min(cores.saturating_sub(1)).max(1),
            start,
            lasts_until: AtomicU64::new(0),
            budget: None,
        }
    }

    /// The same where the CPU time is limited.
    pub fn within(self, budget: Option<Budget>) -> Self {
        Self { budget, ..self }
    }

    /// How many there are.
    pub const fn all(&self) -> usize {
        self.all
    }

    /// How many may hash at this moment.
    pub fn at_once(&self, now: Instant) -> usize {
        if self.requests_come(now) {
            self.beside_requests
        } else {
            self.all
        }
    }

    /// How long the workers rest when one has done a job, so that requests find CPU time left. `used` is what the process
    /// has used since its start.
    pub fn rest(&self, now: Instant, used: Duration) -> Duration {
        let Some(budget) = &self.budget else {
            return Duration::ZERO;
        };
        let rest = budget.rest(now, used);
        if self.requests_come(now) {
            rest
        } else {
            Duration::ZERO
        }
    }

    /// A request has come that must not wait for a core.
    pub fn make_room(&self, now: Instant) {
        let until = self.millis(now + LASTING);
        // Most requests find it written: what is only read is not passed from core to core.
        if self.lasts_until.load(Relaxed) != until {
            self.lasts_until.store(until, Relaxed);
        }
    }

    fn requests_come(&self, now: Instant) -> bool {
        self.millis(now) < self.lasts_until.load(Relaxed)
    }

    fn millis(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.start);
        since.as_secs() * 1_000 + u64::from(since.subsec_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::monotonic_now;

    #[test]
    fn one_core_is_left_to_requests_while_they_come() {
        let start = monotonic_now();
        let workers = Workers::new(4, 4, start);
        assert_eq!(workers.at_once(start), 4);
        workers.make_room(start);
        assert_eq!(workers.at_once(start), 3);
        assert_eq!(workers.at_once(start + LASTING / 2), 3);
        assert_eq!(workers.at_once(start + LASTING), 4);
        workers.make_room(start + LASTING);
        assert_eq!(workers.at_once(start + LASTING), 3);
    }

    #[test]
    fn workers_rest_only_while_requests_come() {
        let start = monotonic_now();
        let later = |millis| start + Duration::from_millis(millis);
        let used = Duration::from_millis;
        let workers = Workers::new(1, 1, start).within(Some(Budget::new(0.5, start, used(0))));
        assert_eq!(workers.rest(later(40), used(36)), Duration::ZERO);
        workers.make_room(later(40));
        assert_eq!(workers.rest(later(80), used(54)).as_millis(), 40);
        let unlimited = Workers::new(1, 1, start);
        unlimited.make_room(start);
        assert_eq!(unlimited.rest(later(40), used(80)), Duration::ZERO);
    }

    #[test]
    fn as_many_workers_as_are_no_more_than_the_other_cores_are_never_held_back() {
        let beside_requests = |all, cores| {
            let start = monotonic_now();
            let workers = Workers::new(all, cores, start);
            workers.make_room(start);
            workers.at_once(start)
        };
        assert_eq!(beside_requests(3, 8), 3);
        assert_eq!(beside_requests(8, 8), 7);
        assert_eq!(beside_requests(9, 2), 1);
        assert_eq!(beside_requests(1, 1), 1, "one may always hash");
    }
}

//! When a mail is tried again, and when sending pauses because the server is away.

use std::time::Duration;

use crate::clock::Timestamp;

/// The pause after the first attempt; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// How long after it was queued a mail is tried.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// The pause after the server could not be reached once; it doubles up to [`LONGEST_OUTAGE_PAUSE`].
const FIRST_OUTAGE_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause before the server is tried again.
const LONGEST_OUTAGE_PAUSE: Duration = Duration::from_secs(60);

/// When a mail of that age is tried again after `attempts`; `None`: it is given up. `random` is from 0 to 1: mails that
/// failed together do not come back together.
pub(super) fn next_attempt(
    created_at: Timestamp,
    attempts: i32,
    now: Timestamp,
    random: f64,
) -> Option<Timestamp> {
    if now >= created_at + LIFETIME {
        return None;
    }
    let doublings = u32::try_from(attempts.clamp(1, 16) - 1).unwrap_or(0);
    let pause = FIRST_PAUSE
        .saturating_mul(1 << doublings)
        .min(LONGEST_PAUSE);
    Some(now + pause.mul_f64(0.8 + 0.4 * random))
}

/// Whether the server is tried: a circuit breaker. While it is open no mail is claimed, so no mail uses up attempts.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
}

impl Breaker {
    /// The server answered.
    pub(super) fn close(&mut self) {
        self.failures = 0;
    }

    /// The server could not be reached. Returns how long nothing is sent.
    pub(super) fn fail(&mut self, random: f64) -> Duration {
        let doublings = self.failures.min(16);
        self.failures += 1;
        let pause = FIRST_OUTAGE_PAUSE
            .saturating_mul(1 << doublings)
            .min(LONGEST_OUTAGE_PAUSE);
        pause.mul_f64(0.8 + 0.4 * random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUED: Timestamp = Timestamp::from_seconds(1_800_000_000);

    #[test]
    fn pauses_double_up_to_an_hour_and_end_after_a_day() {
        let pause = |attempts| {
            let next = next_attempt(QUEUED, attempts, QUEUED, 0.5).unwrap();
            next.since(QUEUED).as_secs()
        };
        assert_eq!(
            [1, 2, 3, 7, 8, 100].map(pause),
            [30, 60, 120, 1920, 3600, 3600]
        );
        let day = Duration::from_secs(24 * 3600);
        assert!(next_attempt(QUEUED, 5, QUEUED + day, 0.5).is_none());
        assert!(next_attempt(QUEUED, 500, QUEUED + day - Duration::from_secs(1), 0.5).is_some());
    }

    #[test]
    fn pauses_vary_by_a_fifth() {
        let pause = |random| {
            next_attempt(QUEUED, 1, QUEUED, random)
                .unwrap()
                .since(QUEUED)
        };
        assert_eq!(pause(0.0), Duration::from_secs(24));
        assert_eq!(pause(1.0), Duration::from_secs(36));
    }

    #[test]
    fn the_breaker_waits_longer_each_time_and_closes_at_once() {
        let mut breaker = Breaker::default();
        let pauses: Vec<_> = (0..8).map(|_| breaker.fail(0.5).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        breaker.close();
        assert_eq!(breaker.fail(0.5).as_secs(), 1);
    }
}

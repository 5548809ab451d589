//! How guesses at one password are slowed down: the state of a failure counter and the rule that judges it.
//!
//! Below the limit every attempt is admitted. At or above it there is a delay after each failure; when a delay is
//! over, one attempt is admitted as a *trial*, which the database grants to one caller at a time.

use std::{num::NonZeroU32, time::Duration};

use crate::clock::Timestamp;

/// The longest delay.
pub const MAX_DELAY: Duration = Duration::from_secs(15 * 60);

/// How long a trial keeps others out if its server never reports the result. It exceeds the longest time
/// that an attempt may wait for a hashing worker, with time for the hash and for the statement that counts it.
pub const TRIAL_LEASE: Duration = Duration::from_secs(15);

/// How far the clocks of two replicas may differ before one takes the other's trials for misdated.
const CLOCK_SKEW: Duration = Duration::from_secs(5);

/// What is known about failed attempts under one counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailureCounter {
    /// Wrong passwords since the last success.
    pub failures: u32,
    /// At or above the limit: before this moment no attempt is admitted. Without meaning below the limit.
    pub retry_at: Timestamp,
}

/// Whether an attempt may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may: the counter is below the limit.
    Open,
    /// It may if this state can be written in place of the one that was judged.
    Trial(FailureCounter),
    /// It may not before this time has passed.
    Delayed(Duration),
    /// The counter was written by a clock that was wrong: no rule puts `retry_at` so far ahead. This state takes
    /// its place, and the delay starts again.
    Misdated(FailureCounter),
}

impl FailureCounter {
    /// Judges an attempt that begins at `now`.
    pub fn admit(self, limit: NonZeroU32, now: Timestamp) -> Admission {
        if self.failures < limit.get() {
            return Admission::Open;
        }
        let remaining = self.retry_at.since(now);
        if remaining.is_zero() {
            let retry_at = now + TRIAL_LEASE;
            return Admission::Trial(Self { retry_at, ..self });
        }
        let delay = delay(self.failures, limit);
        if remaining > delay.max(TRIAL_LEASE + CLOCK_SKEW) {
            let retry_at = now + delay;
            return Admission::Misdated(Self { retry_at, ..self });
        }
        // While a trial runs, `remaining` is what is left of its lease; its result comes sooner as a rule, and
        // brings this delay at most.
        let next = self.after_failure(limit, now);
        Admission::Delayed(remaining.min(next.retry_at.since(now)))
    }

    /// The counter after one more wrong password, judged at `now`.
    pub fn after_failure(self, limit: NonZeroU32, now: Timestamp) -> Self {
        let failures = self.failures.saturating_add(1);
        Self {
            failures,
            retry_at: now + delay(failures, limit),
        }
    }
}

/// How long attempts wait after the `failures`-th failure in a row: not at all below the limit, then one second,
/// doubled with each failure, at most [`MAX_DELAY`].
fn delay(failures: u32, limit: NonZeroU32) -> Duration {
    match failures.checked_sub(limit.get()) {
        None => Duration::ZERO,
        Some(beyond) => Duration::from_secs(1_u64 << beyond.min(20)).min(MAX_DELAY),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: NonZeroU32 = NonZeroU32::new(10).unwrap();

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn counter(failures: u32, retry_at: i64) -> FailureCounter {
        FailureCounter {
            failures,
            retry_at: at(retry_at),
        }
    }

    #[test]
    fn delays_double_from_one_second_at_the_limit_to_fifteen_minutes() {
        for (failures, seconds) in [
            (1, 0),
            (9, 0),
            (10, 1),
            (11, 2),
            (12, 4),
            (19, 512),
            (20, 900),
            (u32::MAX, 900),
        ] {
            assert_eq!(
                delay(failures, LIMIT),
                Duration::from_secs(seconds),
                "{failures}"
            );
        }
    }

    #[test]
    fn below_the_limit_everything_is_admitted_whatever_the_time() {
        for retry_at in [i64::MIN / 2_000_000, 0, 999, 1_000, 1_001, 1_000_000_000] {
            assert_eq!(
                counter(9, retry_at).admit(LIMIT, at(1_000)),
                Admission::Open
            );
        }
    }

    #[test]
    fn a_delay_refuses_until_it_is_over_and_then_admits_a_trial() {
        let delayed = counter(12, 1_004);
        for (now, expected) in [
            (1_000, Admission::Delayed(Duration::from_secs(4))),
            (1_003, Admission::Delayed(Duration::from_secs(1))),
            (1_004, Admission::Trial(counter(12, 1_019))),
            (9_999, Admission::Trial(counter(12, 10_014))),
        ] {
            assert_eq!(delayed.admit(LIMIT, at(now)), expected, "{now}");
        }
    }

    #[test]
    fn during_a_trial_other_attempts_get_the_delay_that_follows_its_failure() {
        let Admission::Trial(running) = counter(10, 1_000).admit(LIMIT, at(1_000)) else {
            panic!("the delay is over");
        };
        assert_eq!(
            running.admit(LIMIT, at(1_000)),
            Admission::Delayed(Duration::from_secs(2))
        );
        assert_eq!(
            running.admit(LIMIT, at(1_015)),
            Admission::Trial(counter(10, 1_030)),
            "a trial without a result ends with its lease"
        );
    }

    #[test]
    fn a_delay_that_ends_too_far_in_the_future_is_shortened() {
        let year = 365 * 24 * 3_600;
        assert_eq!(
            counter(12, 1_000 + year).admit(LIMIT, at(1_000)),
            Admission::Misdated(counter(12, 1_004))
        );
        assert_eq!(
            counter(20, 1_901).admit(LIMIT, at(1_000)),
            Admission::Misdated(counter(20, 1_900)),
            "no delay is longer than the cap from now"
        );
        // A trial that a replica granted whose clock is three seconds ahead stays what it is.
        assert_eq!(
            counter(10, 1_018).admit(LIMIT, at(1_000)),
            Admission::Delayed(Duration::from_secs(2))
        );
    }

    proptest! {
        #[test]
        fn every_retry_delay_is_above_zero_and_at_most_fifteen_minutes(
            failures: u32, retry_at: i64, now in 0_i64..=4_000_000_000_000_000, limit in 1_u32..=1_000,
        ) {
            let limit = NonZeroU32::new(limit).unwrap();
            let now = Timestamp::from_micros(now);
            let counter = FailureCounter { failures, retry_at: Timestamp::from_micros(retry_at) };
            match counter.admit(limit, now) {
                Admission::Open => prop_assert!(failures < limit.get()),
                Admission::Trial(next) => prop_assert_eq!(next.retry_at.since(now), TRIAL_LEASE),
                Admission::Delayed(delay) => {
                    prop_assert!(delay > Duration::ZERO && delay <= MAX_DELAY);
                }
                Admission::Misdated(next) => {
                    prop_assert!(next.retry_at.since(now) <= MAX_DELAY);
                    let repaired = next.admit(limit, now);
                    prop_assert!(matches!(repaired, Admission::Delayed(_)), "{:?}", repaired);
                }
            }
        }
    }
}

//! Time in which the deployment could not answer: it does not count towards the grace of a refresh token.

use std::time::Duration;

use crate::clock::Timestamp;

/// How much of the time since a rotation can be left out at most. It bounds how late the reuse of a stolen token is
/// noticed; `artifacts/auth-analysis/decisions/0500-grace-and-outages.md` has the argument.
pub const LONGEST_ALLOWANCE: Duration = Duration::from_secs(5 * 60);

/// How long clients may take to retry after an outage: their back-off has grown by then.
const RECOVERY: Duration = Duration::from_secs(60);

/// A span of time in which a replica could not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// When it began.
    pub began: Timestamp,
    /// When it was over.
    pub ended: Timestamp,
}

impl Outage {
    /// Up to `ended`, whenever that began: of a process, the time before its start.
    pub const fn until(ended: Timestamp) -> Self {
        Self {
            began: Timestamp::from_micros(i64::MIN),
            ended,
        }
    }
}

/// How much of the time from a rotation at `rotated_at` to `now` does not count: every outage that was not over at
/// `rotated_at`, each with the time that clients need to come back, but no more than [`LONGEST_ALLOWANCE`].
///
/// An outage that was over before the rotation cannot have cost the answer to it.
pub fn allowance(outages: &[Outage], rotated_at: Timestamp, now: Timestamp) -> Duration {
    let mut spans: Vec<(Timestamp, Timestamp)> = outages
        .iter()
        .filter(|outage| outage.ended > rotated_at)
        .map(|outage| {
            let ended = outage.ended + RECOVERY;
            (outage.began.max(rotated_at), ended.min(now))
        })
        .collect();
    spans.sort_unstable();
    let mut left_out = Duration::ZERO;
    let mut covered = rotated_at;
    for (began, ended) in spans {
        left_out += ended.since(began.max(covered));
        covered = covered.max(ended);
    }
    left_out.min(LONGEST_ALLOWANCE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn outage(began: i64, ended: i64) -> Outage {
        Outage {
            began: at(began),
            ended: at(ended),
        }
    }

    fn allowed(outages: &[Outage], rotated_at: i64, now: i64) -> u64 {
        allowance(outages, at(rotated_at), at(now)).as_secs()
    }

    #[test]
    fn an_outage_and_the_minute_after_it_do_not_count() {
        let outages = [outage(1_000, 1_020)];
        assert_eq!(allowed(&[], 1_000, 1_030), 0);
        assert_eq!(allowed(&outages, 1_000, 1_010), 10);
        assert_eq!(allowed(&outages, 1_000, 1_020), 20);
        assert_eq!(allowed(&outages, 1_000, 1_050), 50);
        assert_eq!(allowed(&outages, 1_000, 1_200), 80);
        assert_eq!(allowed(&outages, 990, 1_200), 80);
        assert_eq!(allowed(&outages, 1_010, 1_200), 70);
    }

    #[test]
    fn an_outage_that_was_over_at_the_rotation_leaves_nothing_out() {
        let outages = [outage(1_000, 1_020), Outage::until(at(1_020))];
        assert_eq!(allowed(&outages, 1_020, 1_030), 0);
        assert_eq!(allowed(&outages, 1_025, 1_030), 0);
    }

    #[test]
    fn overlapping_outages_count_once() {
        let outages = [
            outage(1_000, 1_020),
            outage(1_010, 1_030),
            outage(1_005, 1_006),
        ];
        assert_eq!(allowed(&outages, 1_000, 1_060), 60);
        assert_eq!(allowed(&outages, 1_000, 1_500), 90);
    }

    #[test]
    fn an_outage_is_limited_to_five_minutes() {
        assert_eq!(allowed(&[outage(0, 10_000)], 1_000, 9_000), 300);
        assert_eq!(allowed(&[Outage::until(at(9_000))], 1_000, 9_000), 300);
    }

    proptest! {
        #[test]
        fn it_is_never_more_than_the_time_that_has_passed(
            spans in prop::collection::vec((-500..500_i64, 0..400_i64), 0..20),
            rotated_at in -500..500_i64,
            passed in 0..800_i64,
        ) {
            let outages: Vec<_> = spans.iter().map(|(began, length)| outage(*began, began + length)).collect();
            let allowed = allowance(&outages, at(rotated_at), at(rotated_at + passed));
            prop_assert!(allowed <= Duration::from_secs(passed.unsigned_abs()).min(LONGEST_ALLOWANCE));
        }
    }
}

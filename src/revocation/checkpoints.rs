//! Where the next read of the revocations must begin so that none is missed.
//!
//! This version writes rows that become visible in the order of their positions (`store::feed_state`). Versions before do
//! not, and serve beside it during an upgrade: a transaction takes a position and may commit after one that took a
//! greater. But
//!
//! - a position lies beyond all that its transaction saw when it took it, whatever the clocks say;
//! - a transaction commits within [`OVERLAP`] of taking it, or not at all.
//!
//! Let the last complete read have begun at B. A row that it did not see was not committed at B, so its
//! position was taken after B − OVERLAP, and lies beyond everything committed by then; for one, beyond the
//! greatest position that a read had seen which *ended* by B − OVERLAP. From there on the next read reads.
//! B is the beginning of the last read, and not the present moment: a replica that was suspended
//! for an hour must read from before the suspension.
//!
//! A replica that has just started has to read everything again and again until the first read is old
//! enough. Where there are many rows, it assumes meanwhile that clocks agree within a minute, since positions are
//! times; then everything is read a second time, so that the assumption matters no longer.

use std::{collections::VecDeque, time::Duration};

use crate::clock::Timestamp;

/// The longest that a transaction may take from choosing a position to being visible. Statements and
/// transactions that idle are cut off by the database long before (`store::postgres`).
pub(super) const OVERLAP: Duration = Duration::from_secs(10);

/// How far clocks may differ for a replica that has just started.
pub(super) const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// A complete read of the table, from some position to the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    pub(super) began: Duration,
    pub(super) ended: Duration,
    /// The time of day when it began.
    pub(super) now: Timestamp,
    /// The greatest position that it saw.
    pub(super) greatest: Option<i64>,
    /// Whether it had so many rows that it should not be repeated often.
    pub(super) is_long: bool,
}

impl Read {
    fn provisional_floor(&self) -> i64 {
        let now = self.now.micros();
        let newest = self.greatest.map_or(now, |greatest| greatest.min(now));
        (Timestamp::from_micros(newest) - OVERLAP - CLOCK_SKEW).micros()
    }
}

/// Which positions were read when, on the monotonic clock.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    floor: Option<i64>,
    /// What serves as a floor until the given time, when there is none yet.
    provisional: Option<(Duration, i64)>,
    /// Greatest positions with the end of the read that first saw them; both rise.
    seen: VecDeque<(Duration, i64)>,
}

impl Checkpoints {
    /// Before this position everything is known; `None` while that is not certain.
    pub(super) const fn floor(&self) -> Option<i64> {
        self.floor
    }

    /// The position from which a read that begins now reads; `None`: from the beginning.
    pub(super) fn start(&self, began: Duration) -> Option<i64> {
        let provisional = self.provisional.filter(|(until, _)| began < *until);
        self.floor.or(provisional.map(|(_, position)| position))
    }

    /// The greatest position seen so far.
    pub(super) fn greatest(&self) -> Option<i64> {
        self.seen
            .back()
            .map(|(_, position)| *position)
            .or(self.floor)
    }

    /// Records a complete read.
    pub(super) fn record(&mut self, read: Read) {
        let Read {
            began,
            ended,
            greatest,
            ..
        } = read;
        if self.provisional.is_none() && read.is_long {
            self.provisional = Some((ended + OVERLAP, read.provisional_floor()));
        }
        while let Some((seen_at, position)) = self.seen.front().copied() {
            if seen_at + OVERLAP > began {
                break;
            }
            self.floor = Some(position);
            self.seen.pop_front();
        }
        if let Some(position) = greatest.filter(|new| self.greatest().is_none_or(|old| old < *new))
        {
            self.seen.push_back((ended, position));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn record(checkpoints: &mut Checkpoints, began: u64, ended: u64, greatest: i64) {
        checkpoints.record(Read {
            began: at(began),
            ended: at(ended),
            now: Timestamp::from_seconds(i64::try_from(began).unwrap()),
            greatest: Some(greatest),
            is_long: true,
        });
    }

    #[test]
    fn the_position_to_read_from_stays_behind_by_the_overlap() {
        let mut checkpoints = Checkpoints::default();
        record(&mut checkpoints, 0, 1, 100);
        assert_eq!(checkpoints.floor(), None);
        record(&mut checkpoints, 10, 10, 200);
        assert_eq!(checkpoints.floor(), None, "the first read ended 9 s before");
        record(&mut checkpoints, 11, 11, 300);
        assert_eq!(checkpoints.floor(), Some(100));
        assert_eq!(checkpoints.greatest(), Some(300));
    }

    #[test]
    fn a_suspended_replica_reads_from_before_the_suspension() {
        let mut checkpoints = Checkpoints::default();
        record(&mut checkpoints, 0, 0, 100);
        record(&mut checkpoints, 11, 11, 200);
        // Suspended for an hour: what was seen at 11 s is old, but the last read was no later.
        assert_eq!(checkpoints.floor(), Some(100));
        record(&mut checkpoints, 3_611, 3_611, 200);
        assert_eq!(checkpoints.floor(), Some(200));
    }

    #[test]
    fn a_long_table_is_read_twice_at_the_start_and_never_again() {
        let mut checkpoints = Checkpoints::default();
        let complete: Vec<u64> = (0..60)
            .filter(|second| {
                let is_complete = checkpoints.start(at(*second)).is_none();
                record(&mut checkpoints, *second, *second, 100);
                is_complete
            })
            .collect();
        assert_eq!(complete, [0, 10]);
    }

    #[test]
    fn reads_without_new_rows_take_no_memory() {
        let mut checkpoints = Checkpoints::default();
        for _ in 0..1_000 {
            record(&mut checkpoints, 1, 1, 7);
        }
        assert_eq!(checkpoints.seen.len(), 1);
    }

    /// A revocation that is being written; times in milliseconds.
    #[derive(Clone, Copy, Debug)]
    struct Write {
        taken_at: u64,
        takes: u64,
        /// How far the writer's clock is off.
        clock_error: i64,
    }

    fn writes(clock_error: i64) -> impl Strategy<Value = Vec<Write>> {
        let clock_errors = -clock_error..=clock_error;
        let write = (0..60_000_u64, 0..10_000_u64, clock_errors);
        let write = write.prop_map(|(taken_at, takes, clock_error)| Write {
            taken_at,
            takes,
            clock_error,
        });
        prop::collection::vec(write, 0..40)
    }

    /// Pauses between reads and their lengths; now and then a long suspension.
    fn reads() -> impl Strategy<Value = Vec<(u64, u64)>> {
        let pause = prop_oneof![9 => 0..3_000_u64, 1 => 0..40_000_u64];
        prop::collection::vec((pause, 0..500_u64), 1..60)
    }

    /// Runs a history, and returns for each read when it began and ended and which rows it missed that were
    /// committed by its beginning.
    fn missed(
        mut writes: Vec<Write>,
        reads: &[(u64, u64)],
        is_long: bool,
    ) -> Vec<(u64, u64, Vec<i64>)> {
        let day = 24 * 3_600_000_i64;
        let time_of_day = |millis: u64| day + i64::try_from(millis).unwrap();
        writes.sort_by_key(|write| write.taken_at);
        // (visible at, position), as the table's own rule gives positions out.
        let mut rows: Vec<(u64, i64)> = Vec::new();
        for write in &writes {
            let visible = rows.iter().filter(|row| row.0 <= write.taken_at);
            let beyond = visible.map(|row| row.1 + 1).max();
            let clock = (time_of_day(write.taken_at) + write.clock_error) * 1_000;
            rows.push((write.taken_at + write.takes, clock.max(beyond.unwrap_or(0))));
        }
        let mut checkpoints = Checkpoints::default();
        let mut known = BTreeSet::new();
        let mut now = 0;
        let run = |(pause, length): &(u64, u64)| {
            let began = now + pause;
            now = began + length;
            // The table is read somewhere between beginning and end.
            let looked = began + length / 2;
            let start = checkpoints
                .start(Duration::from_millis(began))
                .unwrap_or(i64::MIN);
            let seen: Vec<usize> = (0..rows.len())
                .filter(|row| rows[*row].0 <= looked && rows[*row].1 >= start)
                .collect();
            let greatest = seen.iter().map(|row| rows[*row].1).max();
            known.extend(seen);
            checkpoints.record(Read {
                began: Duration::from_millis(began),
                ended: Duration::from_millis(now),
                now: Timestamp::from_micros(time_of_day(began) * 1_000),
                greatest,
                is_long,
            });
            let is_missed = |row: &usize| rows[*row].0 <= began && !known.contains(row);
            let missed = (0..rows.len()).filter(is_missed).map(|row| rows[row].1);
            (began, now, missed.collect())
        };
        reads.iter().map(run).collect()
    }

    proptest! {
        /// Whatever the order of commits, the writers' clocks and the reader's suspensions:
        /// every read finds all that was committed when it began.
        #[test]
        fn no_revocation_is_missed(writes in writes(50_000_000), reads in reads()) {
            for (began, _, missed) in missed(writes, &reads, false) {
                prop_assert!(missed.is_empty(), "the read of {began} missed {missed:?}");
            }
        }

        /// Of a long table the same holds while clocks agree within a minute …
        #[test]
        fn no_revocation_of_a_long_table_is_missed(writes in writes(60_000), reads in reads()) {
            for (began, _, missed) in missed(writes, &reads, true) {
                prop_assert!(missed.is_empty(), "the read of {began} missed {missed:?}");
            }
        }

        /// … and, whatever they say, once the first read is old enough.
        #[test]
        fn no_revocation_of_a_long_table_is_missed_after_the_first_ten_seconds(writes in writes(50_000_000), reads in reads()) {
            let history = missed(writes, &reads, true);
            let settled = history[0].1 + 10_000;
            for (began, _, missed) in history {
                prop_assert!(
                    began < settled || missed.is_empty(),
                    "the read of {began} missed {missed:?}"
                );
            }
        }
    }
}

//! Where the next read of the revocations must begin so that none is ever missed.
//!
//! Rows become visible in the order of commits, which is not the order of their positions: a transaction
//! takes a position and may commit after one that took a greater. What helps is that
//!
//! - a position lies beyond all that its transaction saw when it took it, whatever the clocks say;
//! - a transaction commits within [`OVERLAP`] of taking it, or not at all.
//!
//! Let the last complete read have begun at B. A row that it did not see was not committed at B, so its
//! position was taken after B − OVERLAP, and lies beyond everything committed by then; for one, beyond the
//! greatest position that a read had seen which *ended* by B − OVERLAP. From there on the next read reads.
//! That B is the beginning of the last read, and not the present moment, matters: a replica that slept
//! for an hour must go back behind the moment when it fell asleep.

use std::{collections::VecDeque, time::Duration};

/// The longest that a transaction may take from choosing a position to being visible. Statements and
/// transactions that idle are cut off by the database long before (`store::postgres`).
pub(super) const OVERLAP: Duration = Duration::from_secs(10);

/// Remembers what was seen when, on the monotonic clock.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    floor: Option<i64>,
    /// Greatest positions with the end of the read that first saw them; both rise.
    seen: VecDeque<(Duration, i64)>,
}

impl Checkpoints {
    /// The position from which the next read reads; `None`: from the beginning.
    pub(super) const fn floor(&self) -> Option<i64> {
        self.floor
    }

    /// The greatest position seen so far.
    pub(super) fn greatest(&self) -> Option<i64> {
        self.seen
            .back()
            .map(|(_, position)| *position)
            .or(self.floor)
    }

    /// Notes a complete read: when it began and ended, and the greatest position it saw.
    pub(super) fn record(&mut self, began: Duration, ended: Duration, greatest: Option<i64>) {
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

    #[test]
    fn the_floor_follows_behind_by_the_overlap() {
        let mut checkpoints = Checkpoints::default();
        checkpoints.record(at(0), at(1), Some(100));
        assert_eq!(checkpoints.floor(), None);
        checkpoints.record(at(10), at(10), Some(200));
        assert_eq!(checkpoints.floor(), None, "the first read ended 9 s before");
        checkpoints.record(at(11), at(11), Some(300));
        assert_eq!(checkpoints.floor(), Some(100));
        assert_eq!(checkpoints.greatest(), Some(300));
    }

    #[test]
    fn whoever_slept_goes_back_behind_falling_asleep() {
        let mut checkpoints = Checkpoints::default();
        checkpoints.record(at(0), at(0), Some(100));
        checkpoints.record(at(11), at(11), Some(200));
        // Asleep for an hour: what was seen at 11 s is old, but the last read was no later.
        assert_eq!(checkpoints.floor(), Some(100));
        checkpoints.record(at(3_611), at(3_611), Some(200));
        assert_eq!(checkpoints.floor(), Some(200));
    }

    #[test]
    fn a_thousand_reads_in_which_nothing_was_new_cost_nothing() {
        let mut checkpoints = Checkpoints::default();
        for millis in 0..1_000 {
            let now = Duration::from_millis(millis);
            checkpoints.record(now, now, Some(7));
        }
        assert_eq!(checkpoints.seen.len(), 1);
    }

    /// A revocation on its way into the table.
    #[derive(Clone, Copy, Debug)]
    struct Write {
        taken_at: u64,
        takes: u64,
        /// What the writer's clock says, which may be anything.
        clock: i64,
    }

    fn writes() -> impl Strategy<Value = Vec<Write>> {
        let write = (0..60_000_u64, 0..10_000_u64, 0..1_000_i64);
        let write = write.prop_map(|(taken_at, takes, clock)| Write {
            taken_at,
            takes,
            clock,
        });
        prop::collection::vec(write, 0..40)
    }

    /// Pauses between reads and their lengths; now and then a long sleep.
    fn reads() -> impl Strategy<Value = Vec<(u64, u64)>> {
        let pause = prop_oneof![9 => 0..3_000_u64, 1 => 0..40_000_u64];
        prop::collection::vec((pause, 0..500_u64), 1..60)
    }

    proptest! {
        /// Whatever order the commits come in, whatever the writers' clocks say, however the reader
        /// sleeps: after each read everything is known that was committed when it began.
        #[test]
        fn nothing_committed_is_missed(mut writes in writes(), reads in reads()) {
            writes.sort_by_key(|write| write.taken_at);
            // (visible at, position), as the table's own rule gives positions out.
            let mut rows: Vec<(u64, i64)> = Vec::new();
            for write in &writes {
                let newest = rows.iter().filter(|row| row.0 <= write.taken_at).map(|row| row.1).max();
                let position = write.clock.max(newest.map_or(0, |newest| newest + 1));
                rows.push((write.taken_at + write.takes, position));
            }
            let mut checkpoints = Checkpoints::default();
            let mut known = BTreeSet::new();
            let mut now = 0;
            for (pause, length) in reads {
                let began = now + pause;
                // The table is looked at somewhere between beginning and end.
                let looked = began + length / 2;
                let floor = checkpoints.floor().unwrap_or(i64::MIN);
                let seen: Vec<usize> = (0..rows.len())
                    .filter(|row| rows[*row].0 <= looked && rows[*row].1 >= floor)
                    .collect();
                let greatest = seen.iter().map(|row| rows[*row].1).max();
                known.extend(seen);
                now = began + length;
                checkpoints.record(Duration::from_millis(began), Duration::from_millis(now), greatest);
                for (row, (visible_at, position)) in rows.iter().enumerate() {
                    prop_assert!(
                        *visible_at > began || known.contains(&row),
                        "position {position} became visible at {visible_at}, the read began at {began}"
                    );
                }
            }
        }
    }
}

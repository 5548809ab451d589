//! The circuit breaker: once the database is known to be gone, or not to write, calls are refused at once instead of
//! each waiting for its own time-out.
//!
//! It learns from two things alone: connections that are lost, and pings that fail. Contention between callers says
//! nothing about the database.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use crate::store::StoreError;

/// What the pings say, and how many connections were lost in a row.
#[derive(Debug, Default)]
pub(in crate::store) struct Circuit {
    lost_in_a_row: AtomicU32,
    unclear_pings: AtomicU32,
    pings: AtomicU8,
}

/// The database writes.
const WRITABLE: u8 = 0;
/// It answers and does not write.
const READ_ONLY: u8 = 1;
/// It does not answer.
const DOWN: u8 = 2;

impl Circuit {
    /// How many lost connections, or unclear pings, in a row open the circuit.
    const THRESHOLD: u32 = 3;

    /// Whether everything is let through.
    pub(in crate::store) fn is_closed(&self) -> bool {
        self.pings.load(Ordering::Relaxed) == WRITABLE && !self.is_lost()
    }

    /// Whether reads are let through: also while the database does not write.
    pub(in crate::store) fn lets_reads_through(&self) -> bool {
        self.pings.load(Ordering::Relaxed) != DOWN && !self.is_lost()
    }

    fn is_lost(&self) -> bool {
        self.lost_in_a_row.load(Ordering::Relaxed) >= Self::THRESHOLD
    }

    /// Learns from an operation that was let through.
    pub(in crate::store) fn record<T>(&self, result: &Result<T, StoreError>) {
        match result {
            Err(StoreError::Unavailable(_) | StoreError::Silent(_) | StoreError::Refused(_)) => {
                self.lost_in_a_row.fetch_add(1, Ordering::Relaxed);
            }
            Err(
                StoreError::PoolExhausted
                | StoreError::Busy(_)
                | StoreError::TooManyConnections(_)
                | StoreError::NotWritable(_)
                | StoreError::Forbidden(_),
            ) => {}
            Ok(_) | Err(_) => self.lost_in_a_row.store(0, Ordering::Relaxed),
        }
    }

    /// Learns from a ping, which writes.
    pub(in crate::store) fn record_ping(&self, result: &Result<(), StoreError>) {
        let verdict = match result {
            Ok(()) => WRITABLE,
            Err(StoreError::NotWritable(_) | StoreError::Forbidden(_)) => READ_ONLY,
            // All connections are in use: that alone is no outage.
            Err(StoreError::PoolExhausted) => return,
            // Another replica's ping holds the row, for instance; not for long, if all is well.
            Err(StoreError::Busy(_)) => {
                let before = self.unclear_pings.fetch_add(1, Ordering::Relaxed);
                if before + 1 < Self::THRESHOLD {
                    return;
                }
                READ_ONLY
            }
            Err(_) => DOWN,
        };
        if verdict != READ_ONLY {
            self.unclear_pings.store(0, Ordering::Relaxed);
        }
        if verdict == WRITABLE {
            self.lost_in_a_row.store(0, Ordering::Relaxed);
        }
        self.pings.store(verdict, Ordering::Relaxed);
    }
}

/// What an operation gets that is not tried.
pub(in crate::store) fn circuit_open() -> StoreError {
    StoreError::Unavailable("circuit open".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone() -> StoreError {
        StoreError::Unavailable("gone".to_owned())
    }

    #[test]
    fn lost_connections_in_a_row_open_it_and_contention_does_not() {
        let circuit = Circuit::default();
        circuit.record::<()>(&Err(gone()));
        circuit.record::<()>(&Err(gone()));
        for _ in 0..Circuit::THRESHOLD {
            circuit.record::<()>(&Err(StoreError::PoolExhausted));
            circuit.record::<()>(&Err(StoreError::Busy("lock timeout".to_owned())));
            circuit.record::<()>(&Err(StoreError::TooManyConnections("full".to_owned())));
        }
        assert!(circuit.is_closed());
        circuit.record::<()>(&Err(gone()));
        assert!(!circuit.is_closed());
        circuit.record_ping(&Ok(()));
        assert!(circuit.is_closed());
    }

    #[test]
    fn an_answer_of_any_kind_ends_a_row_of_lost_connections() {
        let circuit = Circuit::default();
        circuit.record::<()>(&Err(gone()));
        circuit.record::<()>(&Err(gone()));
        circuit.record::<()>(&Err(StoreError::Conflict));
        circuit.record::<()>(&Err(gone()));
        assert!(circuit.is_closed());
    }

    #[test]
    fn a_ping_that_cannot_write_leaves_reads() {
        let circuit = Circuit::default();
        circuit.record_ping(&Err(StoreError::NotWritable("read-only".to_owned())));
        assert!(!circuit.is_closed());
        assert!(circuit.lets_reads_through());
        // A read that succeeds does not prove that writes do.
        circuit.record(&Ok(()));
        assert!(!circuit.is_closed());
        circuit.record_ping(&Err(gone()));
        assert!(!circuit.lets_reads_through());
        circuit.record_ping(&Ok(()));
        assert!(circuit.is_closed());
    }

    #[test]
    fn one_unclear_ping_changes_nothing_and_three_open_it() {
        let circuit = Circuit::default();
        let busy = || Err(StoreError::Busy("lock timeout".to_owned()));
        for _ in 1..Circuit::THRESHOLD {
            circuit.record_ping(&busy());
            assert!(circuit.is_closed());
        }
        circuit.record_ping(&busy());
        assert!(!circuit.is_closed());
        circuit.record_ping(&Ok(()));
        assert!(circuit.is_closed());
        circuit.record_ping(&busy());
        assert!(circuit.is_closed());
    }

    #[test]
    fn pings_that_get_no_connection_from_a_busy_pool_change_nothing() {
        let circuit = Circuit::default();
        for _ in 0..=Circuit::THRESHOLD {
            circuit.record_ping(&Err(StoreError::PoolExhausted));
        }
        assert!(circuit.is_closed());
    }
}

//! The circuit breaker: once the database is known to be gone, callers are told at once instead of
//! each waiting for its own time-out.

use std::sync::atomic::{AtomicU32, Ordering};

use super::StoreError;

/// Opens after [`Circuit::THRESHOLD`] failures in a row; the watchdog's ping closes it again.
#[derive(Debug, Default)]
pub(super) struct Circuit {
    failures_in_a_row: AtomicU32,
}

impl Circuit {
    /// How many failures in a row open the circuit.
    const THRESHOLD: u32 = 3;

    /// Whether operations are let through.
    pub(super) fn is_closed(&self) -> bool {
        self.failures_in_a_row.load(Ordering::Relaxed) < Self::THRESHOLD
    }

    /// Learns from an operation or ping that was let through.
    pub(super) fn record<T>(&self, result: &Result<T, StoreError>) {
        match result {
            Err(StoreError::Unavailable(_)) => {
                let previous = self.failures_in_a_row.load(Ordering::Relaxed);
                self.failures_in_a_row
                    .store(previous.saturating_add(1), Ordering::Relaxed);
            }
            // Callers in each other's way say nothing about the database: only lost connections open the circuit,
            // and pings that fail.
            Err(StoreError::PoolExhausted | StoreError::Busy(_)) => {}
            Ok(_) | Err(_) => self.failures_in_a_row.store(0, Ordering::Relaxed),
        }
    }

    /// Opens the circuit without waiting for more failures.
    pub(super) fn trip(&self) {
        self.failures_in_a_row
            .store(Self::THRESHOLD, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_after_failures_in_a_row_and_closes_on_success() {
        let circuit = Circuit::default();
        let gone = || Err::<(), _>(StoreError::Unavailable("gone".into()));
        circuit.record(&gone());
        circuit.record(&gone());
        for _ in 0..Circuit::THRESHOLD {
            circuit.record(&Err::<(), _>(StoreError::PoolExhausted));
            circuit.record(&Err::<(), _>(StoreError::Busy("lock timeout".into())));
        }
        assert!(circuit.is_closed());
        circuit.record(&gone());
        assert!(!circuit.is_closed());
        circuit.record(&Ok(()));
        assert!(circuit.is_closed());
        circuit.trip();
        assert!(!circuit.is_closed());
    }

    #[test]
    fn a_conflict_proves_that_the_database_answers() {
        let circuit = Circuit::default();
        circuit.trip();
        circuit.record(&Err::<(), _>(StoreError::Conflict));
        assert!(circuit.is_closed());
    }
}

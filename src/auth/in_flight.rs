//! Bounds the attempts on one failure counter that this replica processes at once, so that attempts on one account
//! cannot take every place in the hashing queue. Further attempts wait, first come, first served.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Attempts on one counter that this replica processes at once.
pub(super) const AT_ONCE: usize = 8;

/// Attempts on one counter that wait; further ones are refused immediately.
pub(super) const WAITING: usize = 256;

/// Attempts in progress, by the name of their counter. A name without attempts takes no memory.
#[derive(Default)]
pub(super) struct InFlight {
    counters: Mutex<HashMap<String, Attempts>>,
}

struct Attempts {
    permits: Arc<Semaphore>,
    /// Attempts that hold a permit or wait for one.
    count: usize,
}

/// An attempt on a counter. Dropping it frees its permit or its place among the waiting.
pub(super) struct Slot {
    in_flight: Arc<InFlight>,
    name: String,
    permit: Option<OwnedSemaphorePermit>,
}

impl InFlight {
    /// Joins the attempts on the counter with that name. `None` when too many wait.
    pub(super) fn join(self: &Arc<Self>, name: &str) -> Option<Slot> {
        let mut counters = self.lock();
        let attempts = counters.entry(name.to_owned()).or_insert_with(|| Attempts {
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            count: 0,
        });
        if attempts.count >= AT_ONCE + WAITING {
            return None;
        }
        attempts.count += 1;
        let permit = Arc::clone(&attempts.permits).try_acquire_owned().ok();
        Some(Slot {
            in_flight: Arc::clone(self),
            name: name.to_owned(),
            permit,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Attempts>> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Whether it belongs to the counter with that name.
    pub(super) fn is_for(&self, name: &str) -> bool {
        self.name == name
    }

    /// Whether the attempt may proceed.
    pub(super) fn is_admitted(&self) -> bool {
        self.permit.is_some()
    }

    /// Waits until the attempt may proceed.
    pub(super) async fn wait(&mut self) {
        let permits = {
            let counters = self.in_flight.lock();
            counters
                .get(&self.name)
                .map(|attempts| Arc::clone(&attempts.permits))
        };
        if let (None, Some(permits)) = (&self.permit, permits) {
            // The semaphore is never closed.
            self.permit = permits.acquire_owned().await.ok();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counters = self.in_flight.lock();
        if let Some(attempts) = counters.get_mut(&self.name) {
            attempts.count -= 1;
            if attempts.count == 0 {
                counters.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(in_flight: &Arc<InFlight>, name: &str, count: usize) -> Vec<Slot> {
        (0..count)
            .map(|_| in_flight.join(name).expect("there is room"))
            .collect()
    }

    #[tokio::test]
    async fn a_waiting_attempt_proceeds_when_another_one_ends() {
        let in_flight = Arc::new(InFlight::default());
        let mut running = joined(&in_flight, "a", AT_ONCE);
        assert!(running.iter().all(Slot::is_admitted));
        let mut waiting = in_flight.join("a").expect("there is room");
        assert!(!waiting.is_admitted());
        assert!(
            in_flight.join("b").expect("there is room").is_admitted(),
            "another counter"
        );
        running.pop();
        waiting.wait().await;
        assert!(waiting.is_admitted());
    }

    #[test]
    fn waiting_attempts_are_bounded_and_nothing_is_kept_once_all_have_ended() {
        let in_flight = Arc::new(InFlight::default());
        let all = joined(&in_flight, "a", AT_ONCE + WAITING);
        assert!(in_flight.join("a").is_none());
        drop(all);
        assert!(in_flight.lock().is_empty());
        assert!(in_flight.join("a").expect("there is room").is_admitted());
    }

    #[tokio::test]
    async fn an_attempt_that_stops_waiting_frees_its_place() {
        let in_flight = Arc::new(InFlight::default());
        let running = joined(&in_flight, "a", AT_ONCE);
        let mut impatient = in_flight.join("a").expect("there is room");
        let waited =
            tokio::time::timeout(std::time::Duration::from_millis(5), impatient.wait()).await;
        assert!(waited.is_err());
        drop(impatient);
        drop(running);
        assert!(in_flight.lock().is_empty());
    }
}

//! How many attempts on one counter may be judged at once on this replica. Those beyond wait their turn, so that
//! attempts on one account cannot take every place in the hashing queue.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Attempts on one counter that this replica judges at once.
pub(super) const AT_ONCE: usize = 8;

/// Attempts on one counter that wait for their turn; more are refused at once.
pub(super) const WAITING: usize = 256;

/// Attempts under way, by the name of their counter. Names without an attempt take no memory.
#[derive(Default)]
pub(super) struct InFlight {
    lines: Mutex<HashMap<String, Line>>,
}

struct Line {
    turns: Arc<Semaphore>,
    /// Attempts that have a turn or wait for one.
    attempts: usize,
}

/// An attempt's place among those of its counter; dropping it gives the place up.
pub(super) struct Slot {
    in_flight: Arc<InFlight>,
    name: String,
    turn: Option<OwnedSemaphorePermit>,
}

impl InFlight {
    /// Joins the attempts on the counter with that name. `None` when too many wait.
    pub(super) fn join(self: &Arc<Self>, name: &str) -> Option<Slot> {
        let mut lines = self.lock();
        let line = lines.entry(name.to_owned()).or_insert_with(|| Line {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            attempts: 0,
        });
        if line.attempts >= AT_ONCE + WAITING {
            return None;
        }
        line.attempts += 1;
        let turn = Arc::clone(&line.turns).try_acquire_owned().ok();
        Some(Slot {
            in_flight: Arc::clone(self),
            name: name.to_owned(),
            turn,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Whether it belongs to the counter with that name.
    pub(super) fn is_for(&self, name: &str) -> bool {
        self.name == name
    }

    /// Whether the attempt may go on now.
    pub(super) fn has_turn(&self) -> bool {
        self.turn.is_some()
    }

    /// Waits for the attempt's turn; first come, first served.
    pub(super) async fn wait(&mut self) {
        let turns = {
            let lines = self.in_flight.lock();
            lines.get(&self.name).map(|line| Arc::clone(&line.turns))
        };
        if let (None, Some(turns)) = (&self.turn, turns) {
            // The semaphore is never closed.
            self.turn = turns.acquire_owned().await.ok();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut lines = self.in_flight.lock();
        if let Some(line) = lines.get_mut(&self.name) {
            line.attempts -= 1;
            if line.attempts == 0 {
                lines.remove(&self.name);
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
    async fn a_waiting_attempt_gets_the_turn_of_one_that_ends() {
        let in_flight = Arc::new(InFlight::default());
        let mut running = joined(&in_flight, "a", AT_ONCE);
        assert!(running.iter().all(Slot::has_turn));
        let mut waiting = in_flight.join("a").expect("there is room");
        assert!(!waiting.has_turn());
        assert!(
            in_flight.join("b").expect("there is room").has_turn(),
            "another counter"
        );
        running.pop();
        waiting.wait().await;
        assert!(waiting.has_turn());
    }

    #[test]
    fn the_waiting_are_bounded_and_nothing_is_kept_once_all_have_ended() {
        let in_flight = Arc::new(InFlight::default());
        let all = joined(&in_flight, "a", AT_ONCE + WAITING);
        assert!(in_flight.join("a").is_none());
        drop(all);
        assert!(in_flight.lock().is_empty());
        assert!(in_flight.join("a").expect("there is room").has_turn());
    }

    #[tokio::test]
    async fn an_attempt_that_stops_waiting_keeps_no_place() {
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

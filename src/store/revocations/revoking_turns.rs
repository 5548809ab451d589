//! Turns of transactions that revoke: all of them queue for one row (`feed_state`), so those that wait must not hold every
//! connection of the pool.
//!
//! A login that ends the user's oldest session takes no turn: it cannot know before that it will, and hashing bounds how many
//! there are.

use std::{num::NonZeroUsize, sync::Arc};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::store::StoreError;

/// The turns of this replica: three quarters of the connections, all but one of few. Clones share them.
#[derive(Clone)]
pub(in crate::store) struct RevokingTurns(Arc<Semaphore>);

impl RevokingTurns {
    pub(in crate::store) fn of_pool(size: NonZeroUsize) -> Self {
        let for_others = (size.get() / 4).max(1);
        let turns = size.get().saturating_sub(for_others).max(1);
        Self(Arc::new(Semaphore::new(turns)))
    }

    /// Waits for a turn, in the order of arrival. The caller bounds how long.
    pub(in crate::store) async fn take(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        // Never closed.
        self.0
            .acquire()
            .await
            .map_err(|_| StoreError::PoolExhausted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_connections_are_left_to_others_and_one_turn_there_is_always() {
        let turns = |size| {
            let turns = RevokingTurns::of_pool(NonZeroUsize::new(size).unwrap());
            turns.0.available_permits()
        };
        assert_eq!([1, 2, 3, 8, 20].map(turns), [1, 1, 2, 6, 15]);
    }
}

//! How many calls may wait for knowledge at once: each holds a stream and some hundred bytes.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::AuthError;

/// The calls that may wait at once on one replica. All of them together have the database read no more often than one.
const MAX_WAITING: usize = 1_024;

/// When a call that found no place may come again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The places of this replica. Clones share them.
#[derive(Clone)]
pub(super) struct WaitingPlaces(Arc<Semaphore>);

impl Default for WaitingPlaces {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_WAITING)))
    }
}

impl WaitingPlaces {
    /// Takes a place until the result is dropped.
    ///
    /// # Errors
    /// [`AuthError::RateLimited`] when there is none.
    pub(super) fn take(&self) -> Result<SemaphorePermit<'_>, AuthError> {
        self.0.try_acquire().map_err(|_| AuthError::RateLimited {
            retry_after: RETRY_AFTER,
        })
    }
}

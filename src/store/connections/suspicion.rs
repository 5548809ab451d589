//! Failures that an ordinary ping does not detect: after one, the next pings check more (see `ping`).

use std::sync::atomic::Ordering;

use crate::store::{Store, StoreError};

impl Store {
    /// Has the next pings look closely after a failure that a plain one may not notice.
    pub(in crate::store) fn suspect<T>(&self, result: &Result<T, StoreError>) {
        let is_suspect = match result {
            Err(StoreError::NotWritable(_) | StoreError::Forbidden(_)) => true,
            // SQLite's trouble with the file or the disk.
            Err(StoreError::Busy(_)) => self.is_local(),
            _ => false,
        };
        if is_suspect && !self.is_suspect.swap(true, Ordering::Relaxed) {
            self.suspicion.notify_one();
        }
    }

    /// Waits until an operation has failed in a way that asks for a ping at once.
    pub async fn suspicion(&self) {
        self.suspicion.notified().await;
    }
}

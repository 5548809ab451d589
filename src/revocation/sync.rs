//! Keeps the index and the keyring in step with the tables that all replicas write to.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::RevocationIndex;
use crate::{
    clock::{Clock, Timestamp},
    store::{Store, StoreError},
    tokens::{DerivedKeys, Keyring},
};

/// How far each read goes back behind the one before. Rows become visible in the order of commits, not
/// of their time stamps, and replicas' clocks differ: what lies within the overlap is read again.
const OVERLAP: Duration = Duration::from_secs(30);

/// Reads revocations from the database into the index, and signing keys into the keyring.
pub struct RevocationSync {
    store: Store,
    index: Arc<RevocationIndex>,
    keyring: Arc<Keyring>,
    keys: Arc<DerivedKeys>,
    clock: Clock,
    poll_interval: Duration,
}

impl RevocationSync {
    /// A reader that has not read anything yet.
    pub fn new(
        store: Store,
        index: Arc<RevocationIndex>,
        keyring: Arc<Keyring>,
        keys: Arc<DerivedKeys>,
        clock: Clock,
        poll_interval: Duration,
    ) -> Self {
        Self {
            store,
            index,
            keyring,
            keys,
            clock,
            poll_interval,
        }
    }

    /// Reads what is new, or, the first time, everything that is live.
    ///
    /// # Errors
    /// The database fails; the index stays as it was and says so by its `as_of`.
    pub async fn catch_up(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let known = self.index.as_of();
        let since = if known == Timestamp::default() {
            known
        } else {
            known - OVERLAP
        };
        let revocations = self.store.revocations_since(since, now).await?;
        self.index.catch_up(&revocations, now);
        Ok(())
    }

    /// Reads on until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(self.poll_interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let now = self.clock.now();
            if let Err(error) = self.keyring.keep_up(&self.store, &self.keys, now).await {
                tracing::warn!(%error, "signing keys could not be read; using what is known");
            }
            if let Err(error) = self.catch_up().await {
                tracing::warn!(%error, "revocations could not be read; serving what is known");
            }
            self.index.forget_expired(self.clock.now());
        }
    }
}

//! Batches of rotations: refreshes that arrive while others are being written are written by one UPDATE.
//!
//! A rotation costs a round trip and a commit; how many rows it changes hardly matters. A refresh that arrives while no
//! other is being written is not delayed.

use futures_util::future::join_all;
use tokio::{sync::oneshot, time};
use tracing::Instrument as _;

use crate::store::{
    OPERATION_TIMEOUT, Store, StoreError,
    sessions::rotation_queue::{Outcome, Rotation, Waiting, Writer},
};

impl Store {
    /// Rotates a live session from the generation of the token to the next. `None` when the session is at another
    /// generation or not live.
    ///
    /// # Errors
    /// The database fails, or does not answer in time.
    pub async fn rotate_session(&self, rotation: Rotation) -> Outcome {
        self.check_available()?;
        let (reply, outcome) = oneshot::channel();
        if let Some(writer) = self.rotation_queue.push(Waiting { rotation, reply }) {
            let store = self.clone();
            tokio::spawn(async move { store.write_rotations(writer).await });
        }
        let outcome = time::timeout(OPERATION_TIMEOUT, outcome);
        match outcome.instrument(tracing::debug_span!("rotation")).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(StoreError::Unavailable(
                "the batch was not written".to_owned(),
            )),
            Err(_) => Err(StoreError::Busy("no answer in time".to_owned())),
        }
    }

    async fn write_rotations(&self, mut writer: Writer) {
        while let Some(batch) = writer.next_batch() {
            let span = tracing::debug_span!("rotation batch", rotations = batch.len());
            self.write_batch(batch).instrument(span).await;
        }
    }

    async fn write_batch(&self, batch: Vec<Waiting>) {
        if let [_] = batch.as_slice() {
            return self.write_each(batch).await;
        }
        let rotations: Vec<_> = batch
            .iter()
            .map(|waiting| waiting.rotation.clone())
            .collect();
        let Ok(mut rotated) = self.rotate_many(&rotations).await else {
            // One session may have failed all: its row is locked by another transaction, say.
            return self.write_each(batch).await;
        };
        for Waiting { rotation, reply } in batch {
            // A caller that has gone meanwhile may retry within the grace.
            let _ = reply.send(rotated.take(&rotation));
        }
    }

    async fn write_each(&self, batch: Vec<Waiting>) {
        join_all(batch.into_iter().map(|waiting| self.write_one(waiting))).await;
    }

    async fn write_one(&self, Waiting { rotation, reply }: Waiting) {
        if !reply.is_closed() {
            let _ = reply.send(self.rotate_one(&rotation).await);
        }
    }
}

//! Batches of rotations: refreshes that arrive while others are being written are written by one UPDATE.
//!
//! A rotation costs a round trip and a commit; how many rows it changes hardly matters. A refresh that arrives while no
//! other is being written is not delayed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use tokio::{sync::oneshot, time};
use tracing::Instrument as _;

use super::{OPERATION_TIMEOUT, Rotated, Rotation, Store, StoreError};

/// How many batches are written at once: while the commit of one waits for the disk, the next is prepared.
const MAX_WRITERS: usize = 2;

/// How many rotations a batch has at most.
const MAX_BATCH: usize = 64;

type Outcome = Result<Option<Rotated>, StoreError>;

/// A rotation, and where its outcome is sent.
struct Waiting {
    rotation: Rotation,
    reply: oneshot::Sender<Outcome>,
}

/// The rotations that wait for the next batch.
#[derive(Default)]
pub(super) struct RotationQueue(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    writers: usize,
}

impl RotationQueue {
    /// Adds a rotation. `Some` when it needs a new writer, because fewer than [`MAX_WRITERS`] are at work.
    fn push(self: &Arc<Self>, waiting: Waiting) -> Option<Writer> {
        let mut queue = self.lock();
        queue.waiting.push(waiting);
        if queue.writers == MAX_WRITERS {
            return None;
        }
        queue.writers += 1;
        Some(Writer(Some(Arc::clone(self))))
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes batches until no rotation waits. It holds one of the places of [`MAX_WRITERS`], also if it panics.
struct Writer(Option<Arc<RotationQueue>>);

impl Writer {
    /// The next batch, without those whose callers have gone. `None` when no rotation waits: the place is free then.
    fn next_batch(&mut self) -> Option<Vec<Waiting>> {
        let shared = self.0.as_ref()?;
        let mut queue = shared.lock();
        queue.waiting.retain(|waiting| !waiting.reply.is_closed());
        if queue.waiting.is_empty() {
            queue.writers -= 1;
            drop(queue);
            self.0 = None;
            return None;
        }
        let length = queue.waiting.len().min(MAX_BATCH);
        Some(queue.waiting.drain(..length).collect())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(queue) = &self.0 {
            queue.lock().writers -= 1;
        }
    }
}

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
            // A caller that has gone meanwhile may come again within the grace.
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        clock::{Clock, Timestamp},
        domain::SessionId,
    };

    fn waiting() -> (Waiting, oneshot::Receiver<Outcome>) {
        let (reply, outcome) = oneshot::channel();
        let rotation = Rotation {
            session_id: SessionId::generate(Timestamp::from_seconds(1_795_478_400)),
            generation: 0,
            idle_ttl: Duration::from_secs(60),
            clock: Clock::System,
        };
        (Waiting { rotation, reply }, outcome)
    }

    /// Pushes a rotation whose caller waits as long as the test runs.
    fn push(queue: &Arc<RotationQueue>) -> Option<Writer> {
        let (waiting, outcome) = waiting();
        std::mem::forget(outcome);
        queue.push(waiting)
    }

    #[test]
    fn rotations_that_arrive_while_all_writers_work_are_written_together() {
        let queue = Arc::new(RotationQueue::default());
        let mut writers = Vec::new();
        for _ in 0..MAX_WRITERS {
            let mut writer = push(&queue).expect("a new writer");
            assert_eq!(writer.next_batch().unwrap().len(), 1);
            writers.push(writer);
        }
        for _ in 0..=MAX_BATCH {
            assert!(push(&queue).is_none());
        }
        let mut writer = writers.remove(0);
        assert_eq!(writer.next_batch().unwrap().len(), MAX_BATCH);
        assert_eq!(writer.next_batch().unwrap().len(), 1);
        assert!(writer.next_batch().is_none());
        assert!(
            push(&queue).is_some(),
            "the place of the writer is still taken"
        );
    }

    #[test]
    fn a_rotation_whose_caller_has_gone_is_not_written() {
        let queue = Arc::new(RotationQueue::default());
        let (waiting, outcome) = waiting();
        let mut writer = queue.push(waiting).expect("a new writer");
        drop(outcome);
        assert!(writer.next_batch().is_none());
    }

    #[test]
    fn a_writer_that_panics_makes_room_for_another() {
        let queue = Arc::new(RotationQueue::default());
        drop(push(&queue).expect("a new writer"));
        for _ in 0..MAX_WRITERS {
            std::mem::forget(push(&queue).expect("a new writer"));
        }
        assert!(push(&queue).is_none());
    }
}

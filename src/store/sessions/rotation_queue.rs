//! The queue of the rotations that wait for the next batch, and the writers that empty it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use crate::{
    clock::{Clock, Timestamp},
    domain::{Roles, SessionClaims, SessionId, UserId},
    store::StoreError,
};

/// A session's step to the generation after that of a presented token.
#[derive(Clone)]
pub struct Rotation {
    /// The session.
    pub session_id: SessionId,
    /// The generation of the token.
    pub generation: i32,
    /// How long the next token is good if it is not used.
    pub idle_ttl: Duration,
    /// The time at which the statement is sent is that of the rotation, not the time of the request: waiting for a
    /// connection must not shorten the grace.
    pub clock: Clock,
}

/// What a rotation needs to know to issue the next pair.
#[derive(Clone, Debug)]
pub struct Rotated {
    /// Whose session it is.
    pub user_id: UserId,
    /// The roles the user has now.
    pub roles: Roles,
    /// When the session ends if it is not refreshed before.
    pub expires_at: Timestamp,
    /// What the session adds to the claims of its tokens.
    pub claims: SessionClaims,
}

/// How many batches are written at once: while the commit of one waits for the disk, the next is prepared.
const MAX_WRITERS: usize = 2;

/// How many rotations a batch has at most.
const MAX_BATCH: usize = 64;

pub(in crate::store) type Outcome = Result<Option<Rotated>, StoreError>;

/// A rotation, and where its outcome is sent.
pub(in crate::store) struct Waiting {
    pub(in crate::store) rotation: Rotation,
    pub(in crate::store) reply: oneshot::Sender<Outcome>,
}

/// The rotations that wait for the next batch.
#[derive(Default)]
pub(in crate::store) struct RotationQueue(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    writers: usize,
}

impl RotationQueue {
    /// Adds a rotation. `Some` when it needs a new writer, because fewer than [`MAX_WRITERS`] are at work.
    pub(in crate::store) fn push(self: &Arc<Self>, waiting: Waiting) -> Option<Writer> {
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
pub(in crate::store) struct Writer(Option<Arc<RotationQueue>>);

impl Writer {
    /// The next batch, without those whose callers have gone. `None` when no rotation waits: the place is free then.
    pub(in crate::store) fn next_batch(&mut self) -> Option<Vec<Waiting>> {
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

#[cfg(test)]
mod tests {
    use super::*;

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

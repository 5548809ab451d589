//! What a worker does for one request, and how the answer gets back.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{
    PasswordError, Verdict, hasher,
    memory::Memory,
    phc::PasswordHash,
    policy::Policy,
    queue::Refused,
    recipe::{Match, Recipe},
};
use crate::domain::Password;

/// The way back to the caller. Dropped without an answer, it tells of a job that died.
pub(super) type Reply<T> = oneshot::Sender<Result<T, PasswordError>>;

/// What all jobs share.
pub(super) struct Rules {
    pub recipe: Recipe,
    pub policy: Policy,
    pub decoy: PasswordHash,
}

/// One request's work, with everything it needs.
pub(super) struct Job {
    pub rules: Arc<Rules>,
    pub task: Task,
}

/// What is to be done.
pub(super) enum Task {
    /// Check a new password against the policy and hash it.
    HashNew {
        field: &'static str,
        password: Password,
        personal: Vec<String>,
        reply: Reply<PasswordHash>,
    },
    /// Compare a password with a stored hash, or with the decoy.
    Verify {
        password: Password,
        stored: Option<PasswordHash>,
        reply: Reply<Verdict>,
    },
}

impl hasher::Job for Job {
    fn run(self, memory: &mut Memory) -> impl FnOnce() {
        let rules = &*self.rules;
        let answer: Box<dyn FnOnce()> = match self.task {
            Task::HashNew {
                field,
                password,
                personal,
                reply,
            } => {
                let hash = rules.hash_new(field, &password, &personal, memory);
                Box::new(|| answer(reply, hash))
            }
            Task::Verify {
                password,
                stored,
                reply,
            } => {
                let verdict = rules.verify(&password, stored.as_ref(), memory);
                Box::new(|| answer(reply, verdict))
            }
        };
        memory.release_beyond(rules.recipe.blocks());
        answer
    }

    fn refuse(self, Refused { retry_after }: Refused) {
        let overloaded = PasswordError::Overloaded { retry_after };
        match self.task {
            Task::HashNew { reply, .. } => answer(reply, Err(overloaded)),
            Task::Verify { reply, .. } => answer(reply, Err(overloaded)),
        }
    }
}

/// An answer that nobody waits for any more is thrown away.
fn answer<T>(reply: Reply<T>, answer: Result<T, PasswordError>) {
    let _ = reply.send(answer);
}

impl Rules {
    fn hash_new(
        &self,
        field: &'static str,
        password: &Password,
        personal: &[String],
        memory: &mut Memory,
    ) -> Result<PasswordHash, PasswordError> {
        Policy::check_guessability(field, password, personal).map_err(PasswordError::Weak)?;
        Ok(self.recipe.hash(password, memory)?)
    }

    fn verify(
        &self,
        password: &Password,
        stored: Option<&PasswordHash>,
        memory: &mut Memory,
    ) -> Result<Verdict, PasswordError> {
        let hash = stored.unwrap_or(&self.decoy);
        let matched = self.recipe.verify(password, hash, memory)?;
        Ok(match (stored, matched) {
            (None, _) | (_, Match::No) => Verdict::Wrong,
            (_, Match::Yes { current: true }) => Verdict::Right { rehashed: None },
            (_, Match::Yes { current: false }) => Verdict::Right {
                rehashed: Some(self.recipe.hash(password, memory)?),
            },
        })
    }
}

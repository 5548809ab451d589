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
    fn run(self, memory: &mut Memory) {
        let rules = &*self.rules;
        // An answer that nobody waits for any more is thrown away: that is what `let _` says below.
        match self.task {
            Task::HashNew {
                field,
                password,
                personal,
                reply,
            } => {
                let _ = reply.send(rules.hash_new(field, &password, &personal, memory));
            }
            Task::Verify {
                password,
                stored,
                reply,
            } => {
                let _ = reply.send(rules.verify(&password, stored.as_ref(), memory));
            }
        }
        memory.release_beyond(rules.recipe.blocks());
    }

    fn refuse(self, Refused { retry_after }: Refused) {
        let overloaded = PasswordError::Overloaded { retry_after };
        match self.task {
            Task::HashNew { reply, .. } => drop(reply.send(Err(overloaded))),
            Task::Verify { reply, .. } => drop(reply.send(Err(overloaded))),
        }
    }
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

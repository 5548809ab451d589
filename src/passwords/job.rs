//! The work of one request on a hashing worker, and how its answer gets back.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::sync::oneshot;

use super::{
    PasswordError, Verdict,
    argon2id::HashingMemory,
    breached::BreachedPasswords,
    equal_work::FailedLoginCost,
    formats::{self, Effort},
    hasher::PasswordHasher,
    phc::PasswordHash,
    policy::Policy,
    queue::Refused,
    workers,
};
use crate::domain::{FieldViolation, Password, ViolationReason};

/// Sends the result to the caller. If it is dropped without a result, the caller learns that the job panicked.
pub(super) type Reply<T> = oneshot::Sender<Result<T, PasswordError>>;

/// The caller's end of it.
pub(super) type Answer<T> = oneshot::Receiver<Result<T, PasswordError>>;

/// What all jobs share.
pub(super) struct Shared {
    pub hasher: PasswordHasher,
    pub policy: Policy,
    pub failed_login_cost: FailedLoginCost,
    /// Passwords that are known from breaches, where the operator gave a list.
    pub breached: Option<BreachedPasswords>,
    /// Right passwords that were among them.
    pub breached_uses: AtomicU64,
    /// Work done since the start, in KiB written.
    pub work_kib: AtomicU64,
}

/// One request's work, with everything it needs.
pub(super) struct Job {
    pub shared: Arc<Shared>,
    pub task: Task,
}

/// What to do.
pub(super) enum Task {
    /// Check a new password against the policy and hash it.
    HashNew {
        field: &'static str,
        password: Password,
        personal: Vec<String>,
        reply: Reply<PasswordHash>,
    },
    /// Compare a password with the hash of an account.
    Verify {
        password: Password,
        account: Account,
        reply: Reply<Verdict>,
    },
}

/// The account whose password is verified.
#[derive(Clone, Debug)]
pub enum Account {
    /// There is none: every password is wrong.
    Unknown,
    /// The right password is that of this hash.
    Known(PasswordHash),
    /// It has this hash and may not log in: every password is wrong, and the time does not reveal which one matches the hash.
    Disabled(PasswordHash),
}

impl From<Option<PasswordHash>> for Account {
    fn from(stored: Option<PasswordHash>) -> Self {
        stored.map_or(Self::Unknown, Self::Known)
    }
}

impl workers::Job for Job {
    fn run(self, memory: &mut HashingMemory) -> impl FnOnce() {
        let shared = &*self.shared;
        let answer: Box<dyn FnOnce()> = match self.task {
            Task::HashNew {
                field,
                password,
                personal,
                reply,
            } => {
                let hash = shared.hash_new(field, &password, &personal, memory);
                Box::new(|| answer(reply, hash))
            }
            Task::Verify {
                password,
                account,
                reply,
            } => {
                let verdict = shared.verify(&password, &account, memory);
                Box::new(|| answer(reply, verdict))
            }
        };
        shared.work_kib.fetch_add(memory.take_work_kib(), Relaxed);
        memory.release_beyond(shared.usual_memory_kib());
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

/// An answer that nobody waits for any more is discarded.
fn answer<T>(reply: Reply<T>, result: Result<T, PasswordError>) {
    let _ = reply.send(result);
}

impl Shared {
    fn hash_new(
        &self,
        field: &'static str,
        password: &Password,
        personal: &[String],
        memory: &mut HashingMemory,
    ) -> Result<PasswordHash, PasswordError> {
        self.check_breached(field, password)
            .map_err(PasswordError::Weak)?;
        Policy::check_guessability(field, password, personal).map_err(PasswordError::Weak)?;
        Ok(self.hasher.hash(password, memory)?)
    }

    fn verify(
        &self,
        password: &Password,
        account: &Account,
        memory: &mut HashingMemory,
    ) -> Result<Verdict, PasswordError> {
        let (stored, may_log_in) = match account {
            Account::Unknown => return self.fail(password, Effort::None, memory),
            Account::Known(stored) => (stored, true),
            Account::Disabled(stored) => (stored, false),
        };
        if stored.is_absent() {
            return self.fail(password, Effort::None, memory);
        }
        let compared = self.hasher.verify(password, stored, memory)?;
        self.failed_login_cost.note(stored);
        if !(compared.equal && may_log_in) {
            return self.fail(password, compared.effort, memory);
        }
        let rehashed = match compared.current {
            true => None,
            false => Some(self.hasher.hash(password, memory)?),
        };
        let is_breached = self.is_breached(password);
        if is_breached {
            self.breached_uses.fetch_add(1, Relaxed);
        }
        Ok(Verdict::Right {
            rehashed,
            is_breached,
        })
    }

    fn is_breached(&self, password: &Password) -> bool {
        let list = self.breached.as_ref();
        list.is_some_and(|list| list.contains(password))
    }

    /// NIST SP 800-63B-4 section 3.1.1.2: a new password is compared with a list of compromised ones.
    fn check_breached(
        &self,
        field: &'static str,
        password: &Password,
    ) -> Result<(), FieldViolation> {
        if !self.is_breached(password) {
            return Ok(());
        }
        Err(FieldViolation::new(
            field,
            ViolationReason::Breached,
            "must not be a password that is known from a breach",
        ))
    }

    /// Does the rest of the work that every failed login costs, after what is done.
    fn fail(
        &self,
        password: &Password,
        done: Effort,
        memory: &mut HashingMemory,
    ) -> Result<Verdict, PasswordError> {
        let (hashes, works) = self.failed_login_cost.rest_after(done);
        for cost in hashes {
            self.hasher.discard(cost, password, memory)?;
        }
        for work in works {
            formats::discard(work, password.expose_typed())?;
        }
        Ok(Verdict::Wrong)
    }

    /// What a worker may keep between jobs.
    fn usual_memory_kib(&self) -> usize {
        let (new, failed) = (self.hasher.cost(), self.failed_login_cost.get());
        new.blocks().max(failed.blocks()) as usize
    }
}

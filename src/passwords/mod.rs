//! Passwords: hashed with Argon2id on threads of their own, behind a bounded queue.
//!
//! Hashing is made to be slow, so it must not happen where requests are served, nor more often
//! than the machine can bear. A request's job waits in a short `queue`, unless that is full or
//! too slow for the request's deadline; a `hasher` thread of low priority runs it. Whoever stops
//! waiting leaves the queue at once. `recipe` makes and compares hashes, `phc` knows their stored
//! form, `policy` what a new password must fulfil.

mod budget;
mod error;
mod hasher;
mod huge_pages;
mod job;
mod memory;
mod phc;
mod policy;
mod queue;
mod recipe;
#[cfg(test)]
mod tests;
mod traffic;

use std::{sync::Arc, time::Instant};

use tokio::sync::oneshot;

use self::{
    budget::Budget,
    job::{Job, Reply, Rules, Task},
    policy::Policy,
    queue::{Place, Queue, Refused},
    recipe::Recipe,
    traffic::Workers,
};
pub use self::{
    error::{HashingFault, PasswordError},
    memory::Memory,
    phc::PasswordHash,
    queue::HashingLoad,
    recipe::{MAX_STORED_MEMORY_KIB, MAX_STORED_WORK_KIB},
};
use crate::{
    clock::{cpu_time, monotonic_now},
    cores,
    domain::Password,
    secret::Secret,
};

/// What one hash costs (RFC 9106 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argon2Cost {
    /// Memory, in KiB; at least 8 times `parallelism`.
    pub memory_kib: u32,
    /// Passes over that memory; at least 1.
    pub iterations: u32,
    /// Lanes. They are computed one after another, so more of them make no hash faster.
    pub parallelism: u32,
}

/// A key that goes into every hash beside the salt (Argon2's secret value, RFC 9106 section 3.1),
/// so that a stolen database alone is not worth guessing at.
#[derive(Clone, Debug)]
pub struct Pepper {
    /// Names the key in the hashes made with it: the one byte of their PHC parameter `keyid`.
    pub version: u8,
    /// The key.
    pub key: Secret<[u8; 32]>,
}

/// How passwords are hashed and what new ones must fulfil.
#[derive(Clone, Copy, Debug)]
pub struct PasswordSettings {
    /// What a new hash costs. OWASP's Password Storage Cheat Sheet asks for 19456 KiB, 2 passes,
    /// 1 lane, or an equivalent.
    pub cost: Argon2Cost,
    /// Worker threads; each may hold `cost.memory_kib` of memory. At least 1.
    pub workers: usize,
    /// Jobs that may wait beyond those being worked on.
    pub queue: usize,
    /// The fewest code points of a new password (NIST SP 800-63B-4 section 3.1.1.2: 15, or 8 beside
    /// a second factor).
    pub min_length: usize,
}

/// Whether a password is the right one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is not, or there is no such user.
    Wrong,
    /// It is.
    Right {
        /// A new hash to store in place of the old, when that was made with another cost, algorithm
        /// or pepper than new ones are.
        rehashed: Option<PasswordHash>,
    },
}

/// The password service. Clones share its workers, which end when the last of them is dropped.
#[derive(Clone)]
pub struct Passwords(Arc<Shared>);

struct Shared {
    rules: Arc<Rules>,
    queue: Arc<Queue<Job>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Passwords {
    /// Starts the workers. New hashes get the first of `peppers`, all of them verify.
    ///
    /// # Errors
    /// [`PasswordError::Internal`]: no worker, no pepper, two peppers of one version, a cost that
    /// Argon2 does not know, no randomness, or a thread that would not start.
    pub fn start(settings: PasswordSettings, peppers: Vec<Pepper>) -> Result<Self, PasswordError> {
        let PasswordSettings {
            cost,
            workers,
            queue,
            min_length,
        } = settings;
        if workers == 0 {
            return Err(HashingFault::NoWorkers.into());
        }
        let recipe = Recipe::new(cost, peppers)?;
        let decoy = recipe.decoy()?;
        let policy = Policy { min_length };
        let now = monotonic_now();
        let budget = cores::limit().map(|limit| Budget::new(limit, now, cpu_time()));
        let traffic = Workers::new(workers, cores::count().get(), now).within(budget);
        // Made before the threads, so that they end should one of them not start.
        let shared = Shared {
            rules: Arc::new(Rules {
                recipe,
                policy,
                decoy,
            }),
            queue: Arc::new(Queue::new(traffic, queue)),
        };
        hasher::spawn(&shared.queue, workers)?;
        Ok(Self(Arc::new(shared)))
    }

    /// Keeps a place in the line before the workers, until `deadline` at the latest. Whoever needs a
    /// hash takes a place first of all: one who is going to be turned away has then cost nothing.
    ///
    /// # Errors
    /// [`PasswordError::Overloaded`] when the line is full or too slow for `deadline`.
    pub fn reserve(&self, deadline: Option<Instant>) -> Result<HashingPlace, PasswordError> {
        let place = self
            .0
            .queue
            .reserve(deadline, monotonic_now())
            .map_err(|Refused { retry_after }| PasswordError::Overloaded { retry_after })?;
        Ok(HashingPlace {
            rules: Arc::clone(&self.0.rules),
            place,
        })
    }

    /// A request has come that must not wait for a core: for a moment, one is left to such requests.
    pub fn make_room(&self, now: Instant) {
        self.0.queue.workers().make_room(now);
    }

    /// How busy the workers are, for metrics.
    pub fn load(&self) -> HashingLoad {
        self.0.queue.load()
    }
}

/// A place in the line, good for one job. Dropping it, or the future of its job, gives it up.
pub struct HashingPlace {
    rules: Arc<Rules>,
    place: Place<Job>,
}

impl HashingPlace {
    /// Checks a new password against the policy and hashes it.
    ///
    /// `field` is the request's name for it, `personal` what an attacker knows of the user (the e-mail
    /// address, the display name).
    ///
    /// # Errors
    /// [`PasswordError::Weak`] when the policy says no, [`PasswordError::Overloaded`] when the
    /// deadline passed in the line, [`PasswordError::Internal`] otherwise.
    pub async fn hash_new(
        self,
        field: &'static str,
        password: Password,
        personal: Vec<String>,
    ) -> Result<PasswordHash, PasswordError> {
        self.rules
            .policy
            .check_length(field, &password)
            .map_err(PasswordError::Weak)?;
        self.ask(|reply| Task::HashNew {
            field,
            password,
            personal,
            reply,
        })
        .await
    }

    /// Compares a password with a user's stored hash.
    ///
    /// `None` stands for a user who does not exist: the password is compared with a decoy of the
    /// active cost, so that the answer takes as long, and is always [`Verdict::Wrong`]. (A hash of
    /// another cost takes another time, until the next login replaces it.)
    ///
    /// # Errors
    /// [`PasswordError::Overloaded`] when the deadline passed in the line; [`PasswordError::Internal`]
    /// when the stored hash is unreadable, too costly, or made with a pepper that is not configured.
    pub async fn verify(
        self,
        password: Password,
        stored: Option<PasswordHash>,
    ) -> Result<Verdict, PasswordError> {
        self.ask(|reply| Task::Verify {
            password,
            stored,
            reply,
        })
        .await
    }

    /// Compares as [`verify`](Self::verify) does, for a caller who may go away, which `abandoned` tells: a job that still
    /// waits for a worker then leaves the queue, and there is no verdict; one that a worker has begun is awaited, so
    /// that no verdict is lost.
    ///
    /// # Errors
    /// Those of [`verify`](Self::verify).
    pub async fn verify_unless(
        self,
        abandoned: impl Future<Output = ()>,
        password: Password,
        stored: Option<PasswordHash>,
    ) -> Result<Option<Verdict>, PasswordError> {
        let (reply, mut answer) = oneshot::channel();
        let job = Job {
            rules: self.rules,
            task: Task::Verify {
                password,
                stored,
                reply,
            },
        };
        let ticket = self.place.fill(job);
        tokio::select! {
            biased;
            answered = &mut answer => return answered.map_err(|_| HashingFault::JobDied)?.map(Some),
            () = abandoned => drop(ticket),
        }
        answer.await.map_or(Ok(None), |verdict| verdict.map(Some))
    }

    async fn ask<T>(self, task: impl FnOnce(Reply<T>) -> Task) -> Result<T, PasswordError> {
        let (reply, answer) = oneshot::channel();
        let job = Job {
            rules: self.rules,
            task: task(reply),
        };
        // Held until the answer is there: when this future is dropped, so is the place in the queue.
        let _ticket = self.place.fill(job);
        answer.await.map_err(|_| HashingFault::JobDied)?
    }
}

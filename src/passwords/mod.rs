//! Passwords: hashed with Argon2id on worker threads of their own, behind a bounded queue.
//!
//! Hashing is expensive on purpose, so it must not run on the threads that serve requests, nor more often than the machine can
//! handle. A request's job waits in a short `queue`, unless that is full or too slow for the request's deadline; a
//! thread of low priority (`workers`) runs it. A caller that stops waiting leaves the queue at once. `hasher` makes and
//! verifies hashes, `argon2id` computes them, `phc` knows their stored form, `equal_work` makes failed logins
//! indistinguishable by time, `policy` is what a new password must fulfil, `breached` the list of those that are known from breaches.
//!
//! Hashes of other systems are read and verified by `formats`, and stored in the form of `imported`. A login with the right
//! password replaces them.

mod argon2id;
mod breached;
mod cost;
mod cpu_share;
mod equal_work;
mod error;
pub mod formats;
mod hasher;
mod imported;
mod job;
mod pepper;
mod phc;
mod policy;
mod queue;
mod sealer;
#[cfg(test)]
mod tests;
mod workers;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

pub use self::{
    argon2id::{Argon2Input, HashingBackend, HashingMemory},
    breached::{BreachedPasswords, BuildError, BuiltFilter, FilterError, build as build_filter},
    cost::{Argon2Cost, MAX_STORED_MEMORY_KIB, MAX_STORED_WORK_KIB},
    error::{HashingError, PasswordError},
    job::Account,
    pepper::Pepper,
    phc::PasswordHash,
    sealer::HashSealer,
};
use self::{
    cpu_share::{CpuLimit, CpuShare},
    equal_work::FailedLoginCost,
    hasher::PasswordHasher,
    job::{Answer, Job, Reply, Shared, Task},
    policy::Policy,
    queue::{Place, Queue, QueuedJob, Refused},
};
use crate::{
    clock::{cpu_time, monotonic_now},
    cores,
    domain::Password,
    telemetry::Durations,
};

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
        /// Whether the password is known from a breach. It is right all the same.
        is_breached: bool,
    },
}

/// How busy the hashing workers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashingLoad {
    /// Jobs that wait for a worker.
    pub waiting: usize,
    /// Jobs being worked on.
    pub running: usize,
    /// Jobs that may be worked on at once; fewer than there are workers while requests arrive.
    pub at_once: usize,
    /// Jobs done since the start, good and bad; those dropped unrun are not among them.
    pub finished: u64,
    /// Jobs refused since the start: the queue was full, or too slow for their deadline.
    pub refused: u64,
    /// What a job takes a worker, averaged over roughly the last eight; zero before the first.
    pub average: Duration,
    /// Work done since the start: KiB of memory written, in all passes of all hashes together.
    pub work_kib: u64,
    /// What a failed login costs, in the same unit.
    pub failed_login_work_kib: u64,
    /// Right passwords since the start that are known from a breach.
    pub breached_uses: u64,
    /// The implementation of Argon2 that is used.
    pub backend: HashingBackend,
}

/// The password service. Clones share its workers, which end when the last of them is dropped.
#[derive(Clone)]
pub struct Passwords(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    queue: Arc<Queue<Job>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Passwords {
    /// Starts the workers. New hashes get the first of `peppers`, all of them verify.
    ///
    /// # Errors
    /// [`PasswordError::Internal`]: no worker, no pepper, two peppers of one version, a cost that
    /// Argon2 does not accept, or a thread that did not start.
    pub fn start(settings: PasswordSettings, peppers: Vec<Pepper>) -> Result<Self, PasswordError> {
        Self::start_with_list(settings, peppers, None)
    }

    /// The same with a list of passwords that are known from breaches: new ones among them are refused.
    ///
    /// # Errors
    /// Those of [`Self::start`].
    pub fn start_with_list(
        settings: PasswordSettings,
        peppers: Vec<Pepper>,
        breached: Option<BreachedPasswords>,
    ) -> Result<Self, PasswordError> {
        let PasswordSettings {
            cost,
            workers,
            queue,
            min_length,
        } = settings;
        if workers == 0 {
            return Err(HashingError::NoWorkers.into());
        }
        let hasher = PasswordHasher::new(cost, peppers)?;
        let now = monotonic_now();
        let limit = cores::cpu_limit().map(|limit| CpuLimit::new(limit, now, cpu_time()));
        let cpu_share = CpuShare::new(workers, cores::count().get(), now).within(limit);
        // Made before the threads, so that they end should one of them not start.
        let handle = Handle {
            shared: Arc::new(Shared {
                hasher,
                policy: Policy { min_length },
                failed_login_cost: FailedLoginCost::new(cost),
                breached,
                breached_uses: AtomicU64::new(0),
                work_kib: AtomicU64::new(0),
            }),
            queue: Arc::new(Queue::new(cpu_share, queue)),
        };
        workers::spawn(&handle.queue, workers)?;
        Ok(Self(Arc::new(handle)))
    }

    /// Reserves a place in the queue for one job that must be done by `deadline`. Callers that need a hash do this
    /// before anything else: those that are refused have then cost nothing.
    ///
    /// # Errors
    /// [`PasswordError::Overloaded`] when the queue is full or too slow for `deadline`.
    pub fn reserve(&self, deadline: Option<Instant>) -> Result<HashingPermit, PasswordError> {
        let place = self
            .0
            .queue
            .reserve(deadline, monotonic_now())
            .map_err(|Refused { retry_after }| PasswordError::Overloaded { retry_after })?;
        Ok(HashingPermit {
            shared: Arc::clone(&self.0.shared),
            place,
        })
    }

    /// A request has arrived that must not wait for a core: for a moment, one core is left to such requests.
    pub fn leave_a_core_free(&self, now: Instant) {
        self.0.queue.cpu_share().request_arrived(now);
    }

    /// The parameters of new hashes, in the form of [`PasswordHash::parameters`].
    pub fn current_parameters(&self) -> String {
        self.0.shared.hasher.parameters()
    }

    /// Takes the list of all parameters that stored hashes have, in the form of [`PasswordHash::parameters`]: a failed
    /// login costs what the most expensive of them cost. Unreadable ones are ignored.
    pub fn set_stored_parameters(&self, parameters: impl IntoIterator<Item = String>) {
        self.0.shared.failed_login_cost.set_listed(parameters);
    }

    /// Parameters that were found in a stored hash and are not in that list.
    pub fn unlisted_parameters(&self) -> Vec<String> {
        self.0.shared.failed_login_cost.unlisted()
    }

    /// What encrypts and marks imported hashes.
    ///
    /// # Errors
    /// [`PasswordError::Internal`]: there is no pepper.
    pub fn sealer(&self) -> Result<HashSealer, PasswordError> {
        self.0.shared.hasher.sealer()
    }

    /// How long the hashes that were made had waited for a worker.
    pub fn waits(&self) -> Durations {
        self.0.queue.waits()
    }

    /// How busy the workers are, for metrics.
    pub fn load(&self) -> HashingLoad {
        let (shared, queue) = (&self.0.shared, self.0.queue.load());
        HashingLoad {
            waiting: queue.waiting,
            running: queue.running,
            at_once: queue.at_once,
            finished: queue.finished,
            refused: queue.refused,
            average: queue.average,
            work_kib: shared.work_kib.load(Relaxed),
            failed_login_work_kib: shared.failed_login_cost.get().work_kib(),
            breached_uses: shared.breached_uses.load(Relaxed),
            backend: HashingBackend::detect(),
        }
    }
}

/// A reserved place in the queue, for one job. Dropping it, or the future of its job, frees the place.
pub struct HashingPermit {
    shared: Arc<Shared>,
    place: Place<Job>,
}

impl HashingPermit {
    /// Checks a new password against the policy and hashes it.
    ///
    /// `field` is the request's name for it, `personal` what an attacker knows of the user (the e-mail
    /// address, the display name).
    ///
    /// # Errors
    /// [`PasswordError::Weak`] when the policy says no, [`PasswordError::Overloaded`] when the
    /// deadline passed in the queue, [`PasswordError::Internal`] otherwise.
    #[tracing::instrument(level = "debug", name = "password hash", skip_all)]
    pub async fn hash_new(
        self,
        field: &'static str,
        password: Password,
        personal: Vec<String>,
    ) -> Result<PasswordHash, PasswordError> {
        self.shared
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

    /// Compares a password with the hash of an account.
    ///
    /// Every [`Verdict::Wrong`] costs the same work, whatever parameters the stored hash has, and whether the account exists and may
    /// log in. (A stored hash alone, or `None`, is an account as well: see [`Account`].)
    ///
    /// # Errors
    /// [`PasswordError::Overloaded`] when the deadline passed in the queue; [`PasswordError::Internal`]
    /// when the stored hash is unreadable, too costly, or made with a pepper that is not configured.
    #[tracing::instrument(level = "debug", name = "password hash", skip_all)]
    pub async fn verify(
        self,
        password: Password,
        account: impl Into<Account>,
    ) -> Result<Verdict, PasswordError> {
        let account = account.into();
        self.ask(|reply| Task::Verify {
            password,
            account,
            reply,
        })
        .await
    }

    /// Compares as [`Self::verify`] does, for a caller that may stop waiting: `abandoned` completes then. A job that still
    /// waits for a worker leaves the queue, and there is no verdict; one that a worker has started is awaited, so
    /// that no verdict is lost.
    ///
    /// # Errors
    /// Those of [`Self::verify`].
    #[tracing::instrument(level = "debug", name = "password hash", skip_all)]
    pub async fn verify_unless(
        self,
        abandoned: impl Future<Output = ()>,
        password: Password,
        account: impl Into<Account>,
    ) -> Result<Option<Verdict>, PasswordError> {
        let account = account.into();
        let (queued, mut answer) = self.enqueue(|reply| Task::Verify {
            password,
            account,
            reply,
        });
        tokio::select! {
            biased;
            answered = &mut answer => return answered.map_err(|_| HashingError::JobPanicked)?.map(Some),
            () = abandoned => drop(queued),
        }
        answer.await.map_or(Ok(None), |verdict| verdict.map(Some))
    }

    async fn ask<T>(self, task: impl FnOnce(Reply<T>) -> Task) -> Result<T, PasswordError> {
        // Held until the answer is there: when this future is dropped, so is the place in the queue.
        let (_queued, answer) = self.enqueue(task);
        answer.await.map_err(|_| HashingError::JobPanicked)?
    }

    fn enqueue<T>(self, task: impl FnOnce(Reply<T>) -> Task) -> (QueuedJob<Job>, Answer<T>) {
        let (reply, answer) = oneshot::channel();
        let job = Job {
            shared: self.shared,
            task: task(reply),
        };
        (self.place.fill(job), answer)
    }
}

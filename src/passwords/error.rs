//! How hashing can fail: poor public answers on top, rich internal causes below.

use std::{io, time::Duration};

use crate::domain::FieldViolation;

/// Why a password could not be hashed or judged. That a password is *wrong* is no error: see
/// [`Verdict`](super::Verdict).
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The queue is full, or the answer would come after the caller's deadline. Nothing was hashed.
    #[error("password hashing is overloaded, try again in {retry_after:?}")]
    Overloaded {
        /// When the work that waits now will have been done, as far as the last jobs tell.
        retry_after: Duration,
    },
    /// A new password breaks the policy.
    #[error("the new password breaks the password policy")]
    Weak(FieldViolation),
    /// Anything else. The caller must not turn this into "wrong password": unknown is not invalid.
    #[error("a password could not be hashed or verified")]
    Internal(#[from] HashingFault),
}

/// What went wrong inside, for the log. It never holds a password, a hash or a key.
#[derive(Debug, thiserror::Error)]
pub enum HashingFault {
    /// No peppers, or two of one version.
    #[error("there must be at least one pepper, and no version twice")]
    BadPeppers,
    /// No worker to hash with.
    #[error("there must be at least one hashing worker")]
    NoWorkers,
    /// The operating system would not start a worker thread.
    #[error("a hashing worker could not be started")]
    Spawn(#[source] io::Error),
    /// A stored hash names a pepper that this server was not given, or gives it in a form unknown
    /// here. Usually a master key was taken out of the list too early.
    #[error("a stored hash was made with a pepper that is not configured (key id {key_id:?})")]
    UnknownPepper {
        /// The bytes of the PHC parameter `keyid`: the key's version, nothing secret.
        key_id: Vec<u8>,
    },
    /// A stored hash is no PHC string of the Argon2 family.
    #[error("a stored hash is unreadable")]
    Unreadable,
    /// A stored hash asks for more than [`MAX_STORED_MEMORY_KIB`](super::MAX_STORED_MEMORY_KIB) or
    /// [`MAX_STORED_WORK_KIB`](super::MAX_STORED_WORK_KIB).
    #[error("a stored hash asks for {memory_kib} KiB and {iterations} passes, which is too much")]
    TooCostly {
        /// Memory it asks for, in KiB.
        memory_kib: u32,
        /// Passes over that memory it asks for.
        iterations: u32,
    },
    /// Argon2 refuses its parameters.
    #[error("argon2 failed")]
    Argon2(#[from] argon2::Error),
    /// The machine has no memory left for a job.
    #[error("{0} KiB of memory for hashing could not be had")]
    OutOfMemory(usize),
    /// The operating system's random number generator failed.
    #[error("no randomness for a salt")]
    NoRandomness,
    /// The job panicked; the worker lives on.
    #[error("a hashing job died")]
    JobDied,
}

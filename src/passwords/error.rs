//! How hashing can fail: what callers may learn, and the causes behind it for the log.

use std::{io, time::Duration};

use crate::domain::FieldViolation;

/// When a caller should try again after memory for hashing could not be allocated.
const OUT_OF_MEMORY_RETRY: Duration = Duration::from_secs(1);

/// Why a password could not be hashed or verified. A *wrong* password is not an error: see
/// [`Verdict`](super::Verdict).
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The queue is full, the answer would come after the caller's deadline, or there is no memory for a hash.
    #[error("password hashing is overloaded, try again in {retry_after:?}")]
    Overloaded {
        /// When the jobs that wait now are expected to be done.
        retry_after: Duration,
    },
    /// A new password breaks the policy.
    #[error("the new password breaks the password policy")]
    Weak(FieldViolation),
    /// Anything else. The caller must not turn this into "wrong password": unknown is not invalid.
    #[error("a password could not be hashed or verified")]
    Internal(#[source] HashingError),
}

/// The cause of a failure, for the log. It never holds a password, a hash or a key.
#[derive(Debug, thiserror::Error)]
pub enum HashingError {
    /// No peppers, or two of one version.
    #[error("there must be at least one pepper, and no version twice")]
    BadPeppers,
    /// No worker to hash with.
    #[error("there must be at least one hashing worker")]
    NoWorkers,
    /// The operating system did not start a worker thread.
    #[error("a hashing worker could not be started")]
    Spawn(#[source] io::Error),
    /// A stored hash names a pepper that this server was not given, or gives it in an unknown form. Usually a
    /// master key was removed from the list too early.
    #[error("a stored hash was made with a pepper that is not configured (key id {key_id:?})")]
    UnknownPepper {
        /// The bytes of the PHC parameter `keyid`: the key's version, nothing secret.
        key_id: Vec<u8>,
    },
    /// A stored hash is neither a PHC string of the Argon2 family nor an imported hash that is supported, or it was
    /// manipulated.
    #[error("a stored hash is unreadable")]
    Unreadable,
    /// A stored hash asks for more than [`MAX_STORED_MEMORY_KIB`](super::MAX_STORED_MEMORY_KIB) or
    /// [`MAX_STORED_WORK_KIB`](super::MAX_STORED_WORK_KIB).
    #[error(
        "a stored hash needs {memory_kib} KiB and {iterations} passes, which exceeds the limits"
    )]
    TooCostly {
        /// Memory it asks for, in KiB.
        memory_kib: u32,
        /// Passes over that memory it asks for.
        iterations: u32,
    },
    /// The `argon2` crate refuses the parameters.
    #[error("argon2 failed")]
    Argon2(#[from] argon2::Error),
    /// The `argon2-rust` crate refuses the parameters.
    #[error("argon2 failed")]
    Argon2Simd(#[source] argon2_rust::Error),
    /// The system has not enough memory for a hash. Callers get [`PasswordError::Overloaded`].
    #[error("{0} KiB of memory for hashing could not be allocated")]
    OutOfMemory(usize),
    /// The operating system's random number generator failed.
    #[error("no randomness for a salt")]
    NoRandomness,
    /// The job panicked; its worker takes the next job.
    #[error("a hashing job panicked")]
    JobPanicked,
}

impl From<HashingError> for PasswordError {
    fn from(error: HashingError) -> Self {
        match error {
            HashingError::OutOfMemory(kib) => {
                tracing::warn!(kib, "memory for hashing could not be allocated");
                Self::Overloaded {
                    retry_after: OUT_OF_MEMORY_RETRY,
                }
            }
            error => Self::Internal(error),
        }
    }
}

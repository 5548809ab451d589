//! Password hashes of other systems: read strictly, bounded before any hash function runs, verified as their system does.
//!
//! [`accept`] reads every supported spelling and gives a [`StoredHash`] in one canonical spelling of ours, which the same
//! reader reads again. `docs/import.md` lists systems and forms; decisions 1200 and 1201 say why.
//!
//! # How to add a format
//! Systems that only write a known function differently get a reader that ends in that function's type (`django`,
//! `werkzeug`, `braces`, `keycloak`, `bare`). A new function gets a file like `sha_crypt`: `parse` with every bound,
//! `canonical`, `work`, `verify`, `discard`; a row in `work`, an arm in `padding`; an arm in `Foreign`. Lines for the format go
//! into `tests/vectors/password-hashes.jsonl`.

mod application_secret;
mod argon2;
mod bare;
mod bcrypt;
mod braces;
mod digests;
mod django;
mod firebase;
mod foreign;
mod keycloak;
mod padding;
mod pbkdf2;
mod phpass;
mod read;
mod refusal;
mod scrypt;
mod sha_crypt;
#[cfg(test)]
mod tests;
mod text;
mod werkzeug;
mod work;
mod yescrypt;

use std::fmt;

use self::foreign::Foreign;
pub use self::refusal::{Refusal, RefusalKind};
pub(super) use self::{
    foreign::Effort,
    padding::discard,
    work::{Function, MostWork, Work},
};
use super::{argon2id::HashingMemory, error::HashingError};
use crate::secret;

/// A hash of another system that was accepted: it can be verified and written in our canonical spelling.
pub struct StoredHash(Foreign);

impl StoredHash {
    /// The canonical text, which [`accept`] reads again. It may hold the application's pepper: store it sealed, by
    /// [`HashSealer::seal`](super::HashSealer::seal).
    pub fn canonical(&self) -> secret::Secret<String> {
        secret::Secret::new(self.0.canonical())
    }

    /// Whether a stolen copy could be guessed at billions of passwords a second: an importer should say how many are.
    pub const fn is_weak(&self) -> bool {
        matches!(self.0, Foreign::Digested(_))
    }

    /// What [`Self::verify`] costs.
    pub(super) fn effort(&self) -> Effort {
        self.0.effort()
    }

    /// Whether this is the password, in the bytes in which it was typed: hardly another system normalises as we do.
    ///
    /// # Errors
    /// Argon2 fails, or a function refuses parameters that the reader accepted, which would be a fault of this program.
    pub(super) fn verify(
        &self,
        password: &str,
        memory: &mut HashingMemory,
    ) -> Result<bool, HashingError> {
        // A C string ends there: a part of the password would be enough.
        if password.contains('\0') {
            return Ok(false);
        }
        self.0.verify(password, memory)
    }
}

impl fmt::Debug for StoredHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredHash([redacted])")
    }
}

/// Reads a hash of another system, without running any hash function.
///
/// # Errors
/// A [`Refusal`] with the reason in plain words: an unknown or unsupported format, a malformed hash, a cost
/// above the ceiling, or no password at all.
pub fn accept(text: &str) -> Result<StoredHash, Refusal> {
    read::foreign_hash(text).map(StoredHash)
}

//! A foreign hash, by the function that verifies it.

use super::{
    argon2::Argon2Hash, bcrypt::Bcrypt, digests::Digested, pbkdf2::Pbkdf2, phpass::Phpass,
    scrypt::Scrypt, sha_crypt::ShaCrypt, work::Work, yescrypt::Yescrypt,
};
use crate::passwords::{Argon2Cost, argon2id::HashingMemory, error::HashingError};

/// What it costs to verify a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// A hash of Argon2.
    Argon2(Argon2Cost),
    /// Another function.
    Other(Work),
    /// Nothing that could be noticed.
    None,
}

/// A foreign hash, by its function.
pub(super) enum Foreign {
    Argon2(Argon2Hash),
    Bcrypt(Bcrypt),
    Digested(Digested),
    Pbkdf2(Pbkdf2),
    Phpass(Phpass),
    Scrypt(Scrypt),
    ShaCrypt(ShaCrypt),
    Yescrypt(Yescrypt),
}

impl Foreign {
    /// The one spelling in which this hash is stored.
    pub fn canonical(&self) -> String {
        match self {
            Self::Argon2(hash) => hash.canonical(),
            Self::Bcrypt(hash) => hash.canonical(),
            Self::Digested(hash) => hash.canonical(),
            Self::Pbkdf2(hash) => hash.canonical(),
            Self::Phpass(hash) => hash.canonical(),
            Self::Scrypt(hash) => hash.canonical(),
            Self::ShaCrypt(hash) => hash.canonical(),
            Self::Yescrypt(hash) => hash.canonical(),
        }
    }

    pub fn effort(&self) -> Effort {
        Effort::Other(match self {
            Self::Argon2(hash) => return Effort::Argon2(hash.cost()),
            Self::Digested(_) => return Effort::None,
            Self::Bcrypt(hash) => hash.work(),
            Self::Pbkdf2(hash) => hash.work(),
            Self::Phpass(hash) => hash.work(),
            Self::Scrypt(hash) => hash.work(),
            Self::ShaCrypt(hash) => hash.work(),
            Self::Yescrypt(hash) => hash.work(),
        })
    }

    /// Whether this is the password.
    pub fn verify(&self, password: &str, memory: &mut HashingMemory) -> Result<bool, HashingError> {
        let bytes = password.as_bytes();
        Ok(match self {
            Self::Argon2(hash) => hash.verify(bytes, memory)?,
            Self::Bcrypt(hash) => hash.verify(bytes),
            Self::Digested(hash) => hash.verify(bytes),
            Self::Pbkdf2(hash) => hash.verify(bytes),
            Self::Phpass(hash) => hash.verify(bytes),
            Self::Scrypt(hash) => hash.verify(password)?,
            Self::ShaCrypt(hash) => hash.verify(bytes),
            Self::Yescrypt(hash) => hash.verify(bytes)?,
        })
    }
}

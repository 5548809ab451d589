//! Makes password hashes with the configured cost and pepper, and verifies stored hashes with the parameters they name.

use argon2::{
    Algorithm, KeyId, Params, Version,
    password_hash::phc::{Output, Salt},
};
use subtle::ConstantTimeEq;

use super::{
    Argon2Cost, Pepper,
    argon2id::{Argon2Input, HashingMemory},
    error::{HashingError, PasswordError},
    formats::{self, Effort},
    imported,
    phc::{Parts, PasswordHash},
    sealer::HashSealer,
};
use crate::domain::Password;

/// Bytes of salt (RFC 9106 section 3.1 recommends 16).
const SALT_BYTES: usize = 16;

/// Bytes of hash that we make (RFC 9106 section 4: 256 bits).
const OUTPUT_BYTES: usize = 32;

/// The result of comparing a password with a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Comparison {
    /// Whether it is the right password.
    pub equal: bool,
    /// Whether the hash was made just as a new one would be.
    pub current: bool,
    /// What the comparison cost.
    pub effort: Effort,
}

/// Makes hashes with the configured cost and the first pepper, and verifies those made otherwise.
pub(super) struct PasswordHasher {
    params: Params,
    /// The first is active.
    peppers: Vec<Pepper>,
}

impl PasswordHasher {
    /// New hashes get this cost and the first pepper; the other peppers only verify.
    ///
    /// # Errors
    /// No pepper, two of one version, or a cost that Argon2 does not accept.
    pub fn new(cost: Argon2Cost, peppers: Vec<Pepper>) -> Result<Self, HashingError> {
        let doubled = |n: usize| peppers[..n].iter().any(|p| p.version == peppers[n].version);
        let (false, Some(active)) = ((0..peppers.len()).any(doubled), peppers.first()) else {
            return Err(HashingError::BadPeppers);
        };
        let params = cost
            .builder()
            .keyid(KeyId::new(&[active.version])?)
            .output_len(OUTPUT_BYTES)
            .build()?;
        Ok(Self { params, peppers })
    }

    /// The cost of a new hash.
    pub const fn cost(&self) -> Argon2Cost {
        Argon2Cost::of(&self.params)
    }

    /// The parameters of a new hash, in the form of [`PasswordHash::parameters`].
    pub fn parameters(&self) -> String {
        let Argon2Cost {
            memory_kib,
            iterations,
            parallelism,
        } = self.cost();
        format!("$argon2id$v=19$m={memory_kib},t={iterations},p={parallelism}")
    }

    /// Hashes a password under a fresh salt.
    pub fn hash(
        &self,
        password: &Password,
        memory: &mut HashingMemory,
    ) -> Result<PasswordHash, HashingError> {
        self.hash_salted(password, &random::<SALT_BYTES>()?, memory)
    }

    fn hash_salted(
        &self,
        password: &Password,
        salt: &[u8],
        memory: &mut HashingMemory,
    ) -> Result<PasswordHash, HashingError> {
        let mut output = [0; OUTPUT_BYTES];
        memory.hash(self.input(&self.params, password, salt), &mut output)?;
        self.compose(salt, &output)
    }

    /// Computes a hash of this cost and discards it: the work of a failed login beyond its own hash.
    pub fn discard(
        &self,
        cost: Argon2Cost,
        password: &Password,
        memory: &mut HashingMemory,
    ) -> Result<(), HashingError> {
        let params = cost.builder().output_len(OUTPUT_BYTES).build()?;
        let input = self.input(&params, password, &[0; SALT_BYTES]);
        memory.hash(input, &mut [0; OUTPUT_BYTES])
    }

    /// The input of a hash like those that are made now, but with these parameters.
    fn input<'a>(
        &'a self,
        params: &'a Params,
        password: &'a Password,
        salt: &'a [u8],
    ) -> Argon2Input<'a> {
        Argon2Input {
            algorithm: Algorithm::Argon2id,
            version: Version::V0x13,
            params,
            password: password.expose().as_bytes(),
            salt,
            secret: self.peppers[0].key.expose(),
        }
    }

    /// What encrypts and marks imported hashes.
    pub fn sealer(&self) -> Result<HashSealer, PasswordError> {
        HashSealer::new(&self.peppers)
    }

    /// Compares a password with a hash, with the hash's own parameters and the pepper it names. A hash that names none, or
    /// is of another system, was imported: it is compared without a pepper, and with the password as it was typed.
    ///
    /// # Errors
    /// The hash is unreadable, too costly, or made with a pepper that is not configured. None of these says
    /// anything about the password.
    pub fn verify(
        &self,
        password: &Password,
        stored: &PasswordHash,
        memory: &mut HashingMemory,
    ) -> Result<Comparison, HashingError> {
        if !stored.is_argon2() {
            return self.verify_imported(password, stored, memory);
        }
        let Parts {
            algorithm,
            version,
            params,
            salt,
            output: expected,
        } = Parts::read(stored)?;
        let cost = Argon2Cost::of(&params);
        if !cost.is_acceptable(self.cost()) {
            return Err(HashingError::TooCostly {
                memory_kib: cost.memory_kib,
                iterations: cost.iterations,
            });
        }
        let (password, secret) = match params.keyid() {
            [] => (password.expose_typed(), [].as_slice()),
            key_id => (
                password.expose(),
                self.pepper(key_id)?.key.expose().as_slice(),
            ),
        };
        let mut output = [0; Output::MAX_LENGTH];
        let output = &mut output[..expected.len()];
        let input = Argon2Input {
            algorithm,
            version,
            params: &params,
            password: password.as_bytes(),
            salt: salt.as_ref(),
            secret,
        };
        memory.hash(input, output)?;
        Ok(Comparison {
            equal: output.ct_eq(expected.as_bytes()).into(),
            current: algorithm == Algorithm::Argon2id
                && version == Version::V0x13
                && params == self.params,
            effort: Effort::Argon2(cost),
        })
    }

    fn verify_imported(
        &self,
        password: &Password,
        stored: &PasswordHash,
        memory: &mut HashingMemory,
    ) -> Result<Comparison, HashingError> {
        let opened;
        let text = match imported::key_id(stored.as_str()) {
            None => stored.as_str(),
            Some(key_id) => {
                opened = imported::open(stored.as_str(), self.pepper(&key_id)?)?;
                opened.expose()
            }
        };
        let hash = formats::accept(text).map_err(|_| HashingError::Unreadable)?;
        Ok(Comparison {
            equal: hash.verify(password.expose_typed(), memory)?,
            current: false,
            effort: hash.effort(),
        })
    }

    fn pepper(&self, key_id: &[u8]) -> Result<&Pepper, HashingError> {
        self.peppers
            .iter()
            .find(|pepper| key_id == [pepper.version])
            .ok_or_else(|| HashingError::UnknownPepper {
                key_id: key_id.to_vec(),
            })
    }

    fn compose(&self, salt: &[u8], output: &[u8]) -> Result<PasswordHash, HashingError> {
        let unwritable = |_| HashingError::Unreadable;
        let parts = Parts {
            algorithm: Algorithm::Argon2id,
            version: Version::V0x13,
            params: self.params.clone(),
            salt: Salt::new(salt).map_err(unwritable)?,
            output: Output::new(output).map_err(unwritable)?,
        };
        parts.write()
    }
}

fn random<const N: usize>() -> Result<[u8; N], HashingError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| HashingError::NoRandomness)?;
    Ok(bytes)
}

#[cfg(test)]
#[path = "hasher_tests.rs"]
mod tests;

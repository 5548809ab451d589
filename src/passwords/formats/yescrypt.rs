//! yescrypt, `$y$`: what crypt(3) of Debian, Ubuntu and Fedora makes.

use subtle::ConstantTimeEq;
use yescrypt::{Mode, Params, yescrypt};

use super::{
    Refusal,
    text::{crypt_digit, crypt64, fields, within},
    work::{Function, Work, ask_for_memory, powers_of_two},
};
use crate::passwords::error::HashingError;

const MAX_LOG_N: u32 = 17;

/// The largest r that is written as one character.
const MAX_R: u32 = 48;

/// N times r: 256 MiB.
const MAX_MEMORY: u64 = 1 << 21;

const HASH_BYTES: usize = 32;

/// What crypt(3) accepts.
const MAX_SALT: usize = 64;

const LOG_R_OF_PADDING: u32 = 3;

/// A hash of yescrypt.
pub(super) struct Yescrypt {
    log_n: u32,
    r: u32,
    salt: Vec<u8>,
    hash: Vec<u8>,
    canonical: String,
}

impl Yescrypt {
    /// `$y$j9T$<salt>$<hash>`: the flags of crypt(3), log₂ N and r, one character each. Strings with more parameters
    /// (p, t, g, ROM) are made by no crypt(3) and refused.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let malformed = |reason| Refusal::malformed(format!("yescrypt: {reason}"));
        let [_, _, cost, salt, hash] =
            fields(text, '$').ok_or_else(|| malformed("salt or hash is missing"))?;
        let [b'j', log_n, r] = *cost.as_bytes() else {
            return Err(Refusal::not_supported(
                "yescrypt: not the parameters of crypt(3)",
            ));
        };
        let digit = |c| crypt_digit(c).ok_or_else(|| malformed("a parameter is garbled"));
        let log_n = within(digit(log_n)? + 1, "log2(N) of yescrypt", 4, MAX_LOG_N)?;
        let r = within(digit(r)? + 1, "r of yescrypt", 4, MAX_R)?;
        if u64::from(r) << log_n > MAX_MEMORY {
            return Err(Refusal::too_costly(
                "yescrypt: N and r together ask for too much",
            ));
        }
        let salt = crypt64(salt).filter(|salt| (1..=MAX_SALT).contains(&salt.len()));
        let hash = crypt64(hash).filter(|hash| hash.len() == HASH_BYTES);
        Ok(Self {
            log_n,
            r,
            salt: salt.ok_or_else(|| malformed("the salt is empty, too long or garbled"))?,
            hash: hash.ok_or_else(|| malformed("the hash must have 43 characters"))?,
            canonical: text.to_owned(),
        })
    }

    pub fn canonical(&self) -> String {
        self.canonical.clone()
    }

    pub fn work(&self) -> Work {
        Work {
            function: Function::Yescrypt,
            amount: u64::from(self.r) << self.log_n,
        }
    }

    pub fn verify(&self, password: &[u8]) -> Result<bool, HashingError> {
        let computed = compute(self.log_n, self.r, password, &self.salt)?;
        Ok(computed.ct_eq(&self.hash).into())
    }
}

fn compute(log_n: u32, r: u32, password: &[u8], salt: &[u8]) -> Result<[u8; 32], HashingError> {
    ask_for_memory(u64::from(r) << log_n)?;
    let failed = |_| HashingError::Unreadable;
    let params = Params::new(Mode::Rw, 1 << log_n, r, 1).map_err(failed)?;
    let mut output = [0; HASH_BYTES];
    yescrypt(password, salt, &params, &mut output).map_err(failed)?;
    Ok(output)
}

/// Spends N times r = `amount`, with a block size of 8.
pub(super) fn discard(amount: u64, password: &[u8]) -> Result<(), HashingError> {
    for log_n in powers_of_two(amount >> LOG_R_OF_PADDING, 4, MAX_LOG_N) {
        let computed = compute(log_n, 1 << LOG_R_OF_PADDING, password, &[0; 16])?;
        std::hint::black_box(computed);
    }
    Ok(())
}

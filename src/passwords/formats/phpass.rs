//! phpass: the portable hashes of WordPress before 6.8 and phpBB (`$P$`, `$H$`), and Drupal 7 to 10.0's (`$S$`, `U$S$`).

use aws_lc_rs::digest::{self, SHA512};
use md5::{Digest as _, Md5};
use subtle::ConstantTimeEq;

use super::{
    Refusal,
    text::{crypt_digit, crypt64, to_crypt64, to_hex, within},
    work::{Function, Work},
};

/// log₂ of the rounds.
const MIN_LOG: u32 = 7;
const MAX_LOG: u32 = 22;

const SALT: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Digest {
    Md5,
    Sha512,
}

impl Digest {
    fn hash(self, parts: [&[u8]; 2]) -> Vec<u8> {
        match self {
            Self::Md5 => Md5::new()
                .chain_update(parts[0])
                .chain_update(parts[1])
                .finalize()
                .to_vec(),
            Self::Sha512 => {
                let mut context = digest::Context::new(&SHA512);
                for part in parts {
                    context.update(part);
                }
                context.finish().as_ref().to_vec()
            }
        }
    }
}

/// A hash of phpass.
pub(super) struct Phpass {
    digest: Digest,
    /// Drupal 6 stored the MD5 of a password, which Drupal 7 hashed again.
    of_md5: bool,
    log_rounds: u32,
    salt: String,
    hash: String,
}

impl Phpass {
    /// `$P$B<8 characters of salt><22 of hash>`, or 43 of hash after `$S$`.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let malformed = |reason| Refusal::malformed(format!("phpass: {reason}"));
        let read = |prefix| text.strip_prefix(prefix);
        let portable = read("$P$").or_else(|| read("$H$"));
        let (digest, of_md5, rest, length) = match (portable, read("$S$"), read("U$S$")) {
            (Some(rest), ..) => (Digest::Md5, false, rest, 22),
            (_, Some(rest), _) => (Digest::Sha512, false, rest, 43),
            (_, _, Some(rest)) => (Digest::Sha512, true, rest, 43),
            _ => return Err(malformed("not its form")),
        };
        let values: Option<Vec<u32>> = rest.bytes().map(crypt_digit).collect();
        let values = values.ok_or_else(|| malformed("a character outside its alphabet"))?;
        let log_rounds = *values.first().ok_or_else(|| malformed("no cost"))?;
        within(log_rounds, "log2 of the rounds of phpass", MIN_LOG, MAX_LOG)?;
        if values.len() != 1 + SALT + length {
            return Err(malformed("the hash is cut or too long"));
        }
        let (salt, hash) = rest[1..].split_at(SALT);
        // 43 characters are a part of the SHA-512, so all their bits are used.
        if digest == Digest::Md5 && crypt64(hash).is_none() {
            return Err(malformed("the last character has bits that do not exist"));
        }
        Ok(Self {
            digest,
            of_md5,
            log_rounds,
            salt: salt.to_owned(),
            hash: hash.to_owned(),
        })
    }

    pub fn canonical(&self) -> String {
        let prefix = match (self.digest, self.of_md5) {
            (Digest::Md5, _) => "$P$",
            (Digest::Sha512, false) => "$S$",
            (Digest::Sha512, true) => "U$S$",
        };
        // The digit of the cost, and no more: it is below 64.
        let cost = &to_crypt64(&[self.log_rounds.to_le_bytes()[0]])[..1];
        format!("{prefix}{cost}{}{}", self.salt, self.hash)
    }

    pub fn work(&self) -> Work {
        Work {
            function: match self.digest {
                Digest::Md5 => Function::PhpassMd5,
                Digest::Sha512 => Function::PhpassSha512,
            },
            amount: 1 << self.log_rounds,
        }
    }

    pub fn verify(&self, password: &[u8]) -> bool {
        let md5;
        let password = if self.of_md5 {
            md5 = to_hex(&Md5::digest(password));
            md5.as_bytes()
        } else {
            password
        };
        let computed = compute(
            self.digest,
            password,
            self.salt.as_bytes(),
            1 << self.log_rounds,
        );
        let computed = to_crypt64(&computed);
        let length = self.hash.len();
        computed.as_bytes()[..length]
            .ct_eq(self.hash.as_bytes())
            .into()
    }
}

fn compute(digest: Digest, password: &[u8], salt: &[u8], rounds: u64) -> Vec<u8> {
    let mut hash = digest.hash([salt, password]);
    for _ in 0..rounds {
        hash = digest.hash([&hash, password]);
    }
    hash
}

/// Spends `amount` rounds.
pub(super) fn discard(digest: Digest, amount: u64, password: &[u8]) {
    std::hint::black_box(compute(digest, password, b"01234567", amount));
}

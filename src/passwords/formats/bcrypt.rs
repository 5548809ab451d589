//! bcrypt: `$2a$`, `$2b$`, `$2y$`, and what Django, passlib, WordPress and Devise put in front of it.
//!
//! bcrypt uses the first 72 bytes of a password and ignores the rest, as every exporting system does. `$2x$` reproduces a
//! fault of crypt_blowfish before 2011, which took bytes for signed numbers.

use aws_lc_rs::{digest, hmac};
use base64::{Engine, engine::general_purpose::STANDARD};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{
    Refusal,
    application_secret::{Secret, with_secret},
    text::{bcrypt64, bounded, fields, number, parameters, to_hex},
    work::{Function, Work, powers_of_two},
};

/// Above, one hash takes seconds.
const MAX_COST: u32 = 15;

/// The least of the algorithm.
const MIN_COST: u32 = 4;

/// What bcrypt reads of a password, a final NUL included.
const MAX_KEY: usize = 72;

/// What the exporting system hands to bcrypt.
enum Input {
    Password,
    /// `$2x$`: the password, with the fault.
    SignExtended,
    /// Devise: the password, then this.
    Peppered(Secret),
    /// Django's `bcrypt_sha256`: SHA-256 in hexadecimal.
    Sha256Hex,
    /// passlib's `bcrypt_sha256` version 1: SHA-256 in Base64.
    Sha256Base64,
    /// Version 2: HMAC-SHA-256 under the text of the salt, in Base64.
    HmacSha256Base64(String),
    /// WordPress 6.8: HMAC-SHA-384 under a constant key, in Base64.
    HmacSha384Base64,
}

/// A bcrypt hash.
pub(super) struct Bcrypt {
    input: Input,
    cost: u32,
    salt: [u8; 16],
    hash: [u8; 23],
    canonical: String,
}

impl Bcrypt {
    /// `$2b$12$<22 characters of salt><31 of hash>`, with Devise's pepper where there is one.
    pub fn parse(text: &str, pepper: Option<Secret>) -> Result<Self, Refusal> {
        match pepper {
            None if text.starts_with("$2x$") => {
                Self::read(text, Input::SignExtended, text.to_owned())
            }
            None => Self::read(text, Input::Password, text.to_owned()),
            Some(pepper) => {
                let canonical = with_secret(&pepper, text);
                Self::read(text, Input::Peppered(pepper), canonical)
            }
        }
    }

    /// Django: `bcrypt_sha256$$2b$12$…`.
    pub fn parse_django_sha256(text: &str) -> Result<Self, Refusal> {
        let rest = text.strip_prefix("bcrypt_sha256$").unwrap_or_default();
        Self::read(rest, Input::Sha256Hex, text.to_owned())
    }

    /// WordPress: `$wp$2y$12$…`.
    pub fn parse_wordpress(text: &str) -> Result<Self, Refusal> {
        let rest = text.strip_prefix("$wp").unwrap_or_default();
        Self::read(rest, Input::HmacSha384Base64, text.to_owned())
    }

    /// passlib: `$bcrypt-sha256$v=2,t=2b,r=12$<salt>$<hash>`, or `2b,12` in version 1.
    pub fn parse_passlib(text: &str) -> Result<Self, Refusal> {
        let malformed = || Refusal::malformed("bcrypt-sha256: not passlib's form");
        let [_, _, cost, salt, hash] = fields(text, '$').ok_or_else(malformed)?;
        let (version, cost, input) = match parameters(cost, ["v", "t", "r"]) {
            Some(["2", version, cost]) => (version, cost, Input::HmacSha256Base64(salt.to_owned())),
            Some(_) => return Err(malformed()),
            None => {
                let [version, cost] = fields(cost, ',').ok_or_else(malformed)?;
                (version, cost, Input::Sha256Base64)
            }
        };
        let cost = number(cost).ok_or_else(malformed)?;
        let plain = format!("${version}${cost:02}${salt}{hash}");
        Self::read(&plain, input, text.to_owned())
    }

    fn read(text: &str, input: Input, canonical: String) -> Result<Self, Refusal> {
        let malformed = |reason| Refusal::malformed(format!("bcrypt: {reason}"));
        let [start, version, cost, encoded] =
            fields(text, '$').ok_or_else(|| malformed("there must be three fields"))?;
        let is_known = match input {
            Input::SignExtended => version == "2x",
            _ => ["2a", "2b", "2y"].contains(&version),
        };
        if !start.is_empty() || !is_known {
            return Err(Refusal::unknown(
                "bcrypt: the version is not 2a, 2b, 2y or 2x",
            ));
        }
        if cost.len() != 2 {
            return Err(malformed("the cost must have two digits"));
        }
        let cost = cost.strip_prefix('0').unwrap_or(cost);
        let cost = bounded(cost, "the cost of bcrypt", MIN_COST, MAX_COST)?;
        if encoded.len() != 53 || !encoded.is_ascii() {
            return Err(malformed("salt and hash must have 53 characters"));
        }
        let (salt, hash) = encoded.split_at(22);
        let alphabet = || malformed("salt or hash is not bcrypt's Base64");
        Ok(Self {
            input,
            cost,
            salt: bcrypt64(salt).ok_or_else(alphabet)?,
            hash: bcrypt64(hash).ok_or_else(alphabet)?,
            canonical,
        })
    }

    pub fn canonical(&self) -> String {
        self.canonical.clone()
    }

    pub fn work(&self) -> Work {
        Work {
            function: Function::Bcrypt,
            amount: 1 << self.cost,
        }
    }

    pub fn verify(&self, password: &[u8]) -> bool {
        let key = self.key(password);
        compute(self.cost, &self.salt, &key)[..23]
            .ct_eq(&self.hash)
            .into()
    }

    fn key(&self, password: &[u8]) -> Zeroizing<Vec<u8>> {
        let sha256 = || digest::digest(&digest::SHA256, password);
        let key = match &self.input {
            Input::Password => password.to_vec(),
            Input::SignExtended => sign_extended(password),
            Input::Peppered(pepper) => [password, pepper.expose()].concat(),
            Input::Sha256Hex => to_hex(sha256().as_ref()).into_bytes(),
            Input::Sha256Base64 => STANDARD.encode(sha256()).into_bytes(),
            Input::HmacSha256Base64(salt) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, salt.as_bytes());
                STANDARD.encode(hmac::sign(&key, password)).into_bytes()
            }
            Input::HmacSha384Base64 => {
                let key = hmac::Key::new(hmac::HMAC_SHA384, b"wp-sha384");
                STANDARD.encode(hmac::sign(&key, password)).into_bytes()
            }
        };
        Zeroizing::new(key)
    }
}

/// The key as the faulty implementation saw it: each byte is joined to the word before it as a negative number where its
/// highest bit is set. Blowfish reads 18 words of the key and its NUL, again and again.
fn sign_extended(password: &[u8]) -> Vec<u8> {
    let cyclic = password.iter().chain(&[0]).cycle().take(MAX_KEY);
    let bytes: Zeroizing<Vec<u8>> = Zeroizing::new(cyclic.copied().collect());
    let join = |word: u32, byte: &u8| word << 8 | i32::from(byte.cast_signed()).cast_unsigned();
    let words = bytes.chunks(4).map(|bytes| bytes.iter().fold(0, join));
    words.flat_map(u32::to_be_bytes).collect()
}

/// Spends `amount` rounds; a remainder below the least cost is left out.
pub(super) fn discard(amount: u64, password: &[u8]) {
    for cost in powers_of_two(amount, MIN_COST, MAX_COST) {
        std::hint::black_box(compute(cost, &[0; 16], password));
    }
}

/// With the final NUL of C, cut to what bcrypt reads.
fn compute(cost: u32, salt: &[u8; 16], key: &[u8]) -> [u8; 24] {
    let mut terminated = Zeroizing::new(key.to_vec());
    terminated.push(0);
    terminated.truncate(MAX_KEY);
    ::bcrypt::bcrypt(cost, *salt, &terminated)
}

//! PBKDF2 (RFC 8018 section 5.2), and the strings of passlib and LDAP servers. Other systems' strings are read in their
//! own files and end here.

use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;

use super::{
    Refusal,
    text::{ab64, base64, base64_padded, bounded, fields, parameters, to_base64, within},
    work::{Function, Work},
};

/// Above, one hash takes seconds.
const MAX_ITERATIONS: u32 = 10_000_000;

/// The longest salt; the longest that was seen has 64 bytes.
const MAX_SALT: usize = 256;

/// A shorter hash could be met by chance.
const HASH_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

/// What our own form begins with, up to the digest.
pub(super) const CANONICAL: &str = "$cs-pbkdf2-";

/// The digest under HMAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Digest {
    Sha1,
    Sha256,
    Sha512,
}

impl Digest {
    /// Of `sha1`, `sha256` or `sha512`.
    pub fn of_name(name: &str) -> Result<Self, Refusal> {
        match name {
            "sha1" => Ok(Self::Sha1),
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            _ => Err(Refusal::not_supported("pbkdf2: an unknown digest")),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Bytes of output of one block.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    const fn algorithm(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }

    const fn function(self) -> Function {
        match self {
            Self::Sha1 => Function::Pbkdf2Sha1,
            Self::Sha256 => Function::Pbkdf2Sha256,
            Self::Sha512 => Function::Pbkdf2Sha512,
        }
    }
}

/// A PBKDF2 hash.
pub(super) struct Pbkdf2 {
    digest: Digest,
    iterations: NonZeroU32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl Pbkdf2 {
    pub fn new(
        digest: Digest,
        iterations: u32,
        salt: Vec<u8>,
        hash: Vec<u8>,
    ) -> Result<Self, Refusal> {
        let iterations = within(iterations, "the iterations of pbkdf2", 1, MAX_ITERATIONS)?;
        if salt.is_empty() || salt.len() > MAX_SALT {
            return Err(Refusal::malformed("pbkdf2: the salt is empty or too long"));
        }
        if !HASH_BYTES.contains(&hash.len()) {
            return Err(Refusal::malformed(
                "pbkdf2: the hash must have 16 to 64 bytes",
            ));
        }
        Ok(Self {
            digest,
            iterations: NonZeroU32::new(iterations)
                .ok_or_else(|| Refusal::malformed("pbkdf2: no iterations"))?,
            salt,
            hash,
        })
    }

    /// A hash as long as the digest; `None` is a part that could not be decoded.
    pub fn exact(
        digest: Digest,
        iterations: &str,
        salt: Option<Vec<u8>>,
        hash: Option<Vec<u8>>,
    ) -> Result<Self, Refusal> {
        let (Some(salt), Some(hash)) = (salt, hash) else {
            return Err(Refusal::malformed(
                "pbkdf2: the salt or the hash is not encoded as it must be",
            ));
        };
        if hash.len() != digest.bytes() {
            return Err(Refusal::malformed(
                "pbkdf2: the hash is not as long as the digest",
            ));
        }
        let iterations = bounded(iterations, "the iterations of pbkdf2", 1, MAX_ITERATIONS)?;
        Self::new(digest, iterations, salt, hash)
    }

    /// passlib: `$pbkdf2-sha256$29000$<salt>$<hash>`; `$pbkdf2$` is SHA-1.
    pub fn parse_passlib(text: &str) -> Result<Self, Refusal> {
        let [_, id, iterations, salt, hash] =
            fields(text, '$').ok_or_else(|| Refusal::malformed("pbkdf2: not passlib's form"))?;
        let digest = Digest::of_name(id.strip_prefix("pbkdf2-").unwrap_or("sha1"))?;
        Self::exact(digest, iterations, ab64(salt), ab64(hash))
    }

    /// LDAP: `{PBKDF2-SHA256}29000$<salt>$<hash>`; this gets the part after the brace.
    pub fn parse_ldap(digest: Digest, text: &str) -> Result<Self, Refusal> {
        let [iterations, salt, hash] =
            fields(text, '$').ok_or_else(|| Refusal::malformed("pbkdf2: not the form of LDAP"))?;
        Self::exact(digest, iterations, ab64(salt), ab64(hash))
    }

    /// Atlassian: `{PKCS5S2}` and the Base64 of 16 bytes of salt and 32 of hash; 10,000 iterations of HMAC-SHA-1.
    pub fn parse_atlassian(text: &str) -> Result<Self, Refusal> {
        let bytes = base64_padded(text).filter(|bytes| bytes.len() == 48);
        let mut salt =
            bytes.ok_or_else(|| Refusal::malformed("PKCS5S2: not the Base64 of 48 bytes"))?;
        let hash = salt.split_off(16);
        Self::new(Digest::Sha1, 10_000, salt, hash)
    }

    /// Our own form: `$cs-pbkdf2-sha256$i=29000$<salt>$<hash>`.
    pub fn parse_canonical(text: &str) -> Result<Self, Refusal> {
        let malformed = || Refusal::malformed("cs-pbkdf2: not its form");
        let rest = text.strip_prefix(CANONICAL).ok_or_else(malformed)?;
        let [digest, iterations, salt, hash] = fields(rest, '$').ok_or_else(malformed)?;
        let [iterations] = parameters(iterations, ["i"]).ok_or_else(malformed)?;
        let (salt, hash) = (base64(salt), base64(hash));
        let iterations = bounded(iterations, "the iterations of pbkdf2", 1, MAX_ITERATIONS)?;
        Self::new(
            Digest::of_name(digest)?,
            iterations,
            salt.ok_or_else(malformed)?,
            hash.ok_or_else(malformed)?,
        )
    }

    pub fn canonical(&self) -> String {
        let (digest, iterations) = (self.digest.name(), self.iterations);
        let [salt, hash] = [&self.salt, &self.hash].map(|bytes| to_base64(bytes));
        format!("{CANONICAL}{digest}$i={iterations}${salt}${hash}")
    }

    pub fn work(&self) -> Work {
        let blocks = self.hash.len().div_ceil(self.digest.bytes()) as u64;
        Work {
            function: self.digest.function(),
            amount: u64::from(self.iterations.get()) * blocks,
        }
    }

    /// In constant time.
    pub fn verify(&self, password: &[u8]) -> bool {
        let algorithm = self.digest.algorithm();
        pbkdf2::verify(algorithm, self.iterations, &self.salt, password, &self.hash).is_ok()
    }
}

/// Spends `amount` iterations.
pub(super) fn discard(digest: Digest, amount: u64, password: &[u8]) {
    let amount = u32::try_from(amount).unwrap_or(u32::MAX);
    if let Some(iterations) = NonZeroU32::new(amount) {
        let mut output = vec![0; digest.bytes()];
        pbkdf2::derive(
            digest.algorithm(),
            iterations,
            &[0; 16],
            password,
            &mut output,
        );
        std::hint::black_box(output);
    }
}

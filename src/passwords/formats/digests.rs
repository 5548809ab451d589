//! Weak hashes: one digest, or a thousand, of a password with or without a salt. They are accepted because existing users
//! have them; the stored form is encrypted and the first login replaces it (decision 1201).

use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA512};
use md5::{Digest as _, Md5};
use subtle::ConstantTimeEq;

use super::{
    Refusal,
    text::{base64, base64_padded, fields, hex, parameters, to_base64},
};

const MAX_SALT: usize = 128;

/// Rounds of Spring Security's `StandardPasswordEncoder`.
const SPRING_ROUNDS: u32 = 1024;

/// What our own form begins with.
pub(super) const CANONICAL: &str = "$cs-digest$";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Digest {
    Md5,
    Sha1,
    Sha256,
    Sha512,
}

impl Digest {
    const ALL: [(Self, &'static str, usize); 4] = [
        (Self::Md5, "md5", 16),
        (Self::Sha1, "sha1", 20),
        (Self::Sha256, "sha256", 32),
        (Self::Sha512, "sha512", 64),
    ];

    const fn row(self) -> (Self, &'static str, usize) {
        Self::ALL[self as usize]
    }

    /// Of `md5`, `sha1`, `sha256` or `sha512`.
    pub fn of_name(name: &str) -> Option<Self> {
        Some(Self::ALL.into_iter().find(|row| row.1 == name)?.0)
    }

    pub const fn bytes(self) -> usize {
        self.row().2
    }

    fn hash(self, bytes: &[u8]) -> Vec<u8> {
        let of = |algorithm| digest::digest(algorithm, bytes).as_ref().to_vec();
        match self {
            Self::Md5 => Md5::digest(bytes).to_vec(),
            Self::Sha1 => of(&SHA1_FOR_LEGACY_USE_ONLY),
            Self::Sha256 => of(&SHA256),
            Self::Sha512 => of(&SHA512),
        }
    }
}

/// Where the salt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// LDAP, and Spring Security with `{salt}`.
    PasswordSalt,
    /// Django.
    SaltPassword,
    /// Spring Security's `StandardPasswordEncoder`: 1,024 rounds.
    Spring,
}

impl Order {
    const ALL: [(Self, &'static str); 3] = [
        (Self::PasswordSalt, "ps"),
        (Self::SaltPassword, "sp"),
        (Self::Spring, "sp1024"),
    ];
}

/// A weak hash.
pub(super) struct Digested {
    digest: Digest,
    order: Order,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl Digested {
    /// `None` is a part that could not be decoded.
    pub fn new(
        digest: Digest,
        order: Order,
        salt: Vec<u8>,
        hash: Option<Vec<u8>>,
    ) -> Result<Self, Refusal> {
        let hash = hash.filter(|hash| hash.len() == digest.bytes());
        let hash =
            hash.ok_or_else(|| Refusal::malformed("the digest is cut, too long or garbled"))?;
        if salt.len() > MAX_SALT {
            return Err(Refusal::malformed("the salt of the digest is too long"));
        }
        Ok(Self {
            digest,
            order,
            salt,
            hash,
        })
    }

    /// LDAP: `{SSHA}` and the Base64 of the digest and the salt; this gets the part after the brace.
    pub fn parse_ldap(digest: Digest, salted: bool, text: &str) -> Result<Self, Refusal> {
        let mut bytes =
            base64_padded(text).ok_or_else(|| Refusal::malformed("the digest is not Base64"))?;
        let salt = bytes.split_off(digest.bytes().min(bytes.len()));
        if salted == salt.is_empty() {
            let reason = "the digest is cut, has no salt, or has one that it must not have";
            return Err(Refusal::malformed(reason));
        }
        Self::new(digest, Order::PasswordSalt, salt, Some(bytes))
    }

    /// Our own form: `$cs-digest$h=sha1,o=ps$<salt>$<hash>`.
    pub fn parse_canonical(text: &str) -> Result<Self, Refusal> {
        let malformed = || Refusal::malformed("cs-digest: not its form");
        let [_, _, kind, salt, hash] = fields(text, '$').ok_or_else(malformed)?;
        let [digest, order] = parameters(kind, ["h", "o"]).ok_or_else(malformed)?;
        let order = Order::ALL.into_iter().find(|row| row.1 == order);
        Self::new(
            Digest::of_name(digest).ok_or_else(malformed)?,
            order.ok_or_else(malformed)?.0,
            base64(salt).ok_or_else(malformed)?,
            base64(hash),
        )
    }

    /// An unsalted digest in hexadecimal: `$md5-hex$<32 digits>`, and the same of the other digests.
    pub fn parse_hex(name: &str, text: &str) -> Result<Self, Refusal> {
        let digest = Digest::of_name(name)
            .ok_or_else(|| Refusal::unknown("an unknown digest in hexadecimal"))?;
        Self::new(digest, Order::PasswordSalt, Vec::new(), hex(text))
    }

    pub fn canonical(&self) -> String {
        let digest = self.digest.row().1;
        let order = Order::ALL[self.order as usize].1;
        let [salt, hash] = [&self.salt, &self.hash].map(|bytes| to_base64(bytes));
        format!("{CANONICAL}h={digest},o={order}${salt}${hash}")
    }

    pub fn verify(&self, password: &[u8]) -> bool {
        let input = match self.order {
            Order::PasswordSalt => [password, &self.salt].concat(),
            Order::SaltPassword | Order::Spring => [&self.salt, password].concat(),
        };
        let mut hash = self.digest.hash(&input);
        if self.order == Order::Spring {
            for _ in 1..SPRING_ROUNDS {
                hash = self.digest.hash(&hash);
            }
        }
        hash.ct_eq(&self.hash).into()
    }
}

//! Password hashes of other systems: read strictly, bounded before any hash function runs, verified as their system does.
//!
//! [`accept`] reads every supported spelling and gives a [`StoredHash`] in one canonical spelling of ours, which the same
//! reader reads again. `docs/import.md` lists systems and forms; decisions 1200 and 1201 say why.
//!
//! # How to add a format
//! Systems that only write a known function differently get a reader that ends in that function's type (`django`,
//! `werkzeug`, `braces`, `keycloak`, `bare`). A new function gets a file like `sha_crypt`: `parse` with every bound,
//! `canonical`, `work`, `verify`, `discard`; a row in `work`; an arm in [`Foreign`]. Lines for the format go
//! into `tests/vectors/password-hashes.jsonl`.

mod argon2;
mod bare;
mod bcrypt;
mod braces;
mod digests;
mod django;
mod firebase;
mod keycloak;
mod pbkdf2;
mod phpass;
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

use zeroize::Zeroizing;

pub use self::refusal::{Refusal, RefusalKind};
pub(super) use self::work::{Function, MostWork, Work, discard};
use self::{
    argon2::Argon2Hash, bcrypt::Bcrypt, digests::Digested, pbkdf2::Pbkdf2, phpass::Phpass,
    scrypt::Scrypt, sha_crypt::ShaCrypt, yescrypt::Yescrypt,
};
use super::{Argon2Cost, argon2id::HashingMemory, error::HashingError};
use crate::secret;

/// The longest text that is read; Keycloak's JSON has about 500 bytes.
const MAX_TEXT: usize = 4096;

/// The longest foreign pepper; Devise's has 128 bytes.
const MAX_SECRET: usize = 256;

/// What a hash begins with whose application needs a secret besides: Base64 without padding and `$` follow, then the hash.
const WITH_SECRET: &str = "$with-secret$";

/// A secret of the exporting application.
type Secret = secret::Secret<Vec<u8>>;

/// A hash of another system that was accepted: it can be verified and written in our canonical spelling.
pub struct StoredHash(Foreign);

impl StoredHash {
    /// The canonical text, which [`accept`] reads again. It may hold the application's pepper: store it sealed, by
    /// [`Passwords::seal`](super::Passwords::seal).
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
    Foreign::parse(text).map(StoredHash)
}

/// What it costs to verify a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// A hash of Argon2.
    Argon2(Argon2Cost),
    /// Another function.
    Other(Work),
    /// Nothing that could be noticed.
    None,
}

/// A foreign hash, by its function.
enum Foreign {
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
    /// Reads any supported spelling.
    fn parse(text: &str) -> Result<Self, Refusal> {
        if text.len() > MAX_TEXT {
            return Err(Refusal::malformed("longer than any hash"));
        }
        if text.starts_with('{') && text[1..].trim_start().starts_with('"') {
            return keycloak::parse(text);
        }
        if !text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() || byte == b' ')
        {
            let reason = "a character that no hash has: a line break, a control character or a letter beyond ASCII";
            return Err(Refusal::malformed(reason));
        }
        match text.as_bytes() {
            [] => Err(Refusal::new(
                RefusalKind::NoPassword,
                "an empty text is no hash",
            )),
            [b'!', ..] | [b'*'] => {
                let reason = "`!` or `*`: the account has no password, or is locked";
                Err(Refusal::new(RefusalKind::NoPassword, reason))
            }
            [b'{', ..] => braces::parse(text),
            [b'$', ..] => match text.strip_prefix(WITH_SECRET) {
                None => Self::parse_named(text, None),
                Some(rest) => Self::parse_with_secret(rest),
            },
            [b'U', b'$', b'S', b'$', ..] => Phpass::parse(text).map(Self::Phpass),
            _ if !text.contains('$') => bare::parse(text),
            _ => django::parse(text)
                .or_else(|| werkzeug::parse(text))
                .unwrap_or_else(|| Err(Refusal::unknown("no known format of a password hash"))),
        }
    }

    fn parse_with_secret(rest: &str) -> Result<Self, Refusal> {
        let malformed = || Refusal::malformed("with-secret: not its form");
        let (secret, _) = rest.split_once('$').ok_or_else(malformed)?;
        let inner = &rest[secret.len()..];
        let secret = text::base64(secret).filter(|secret| (1..=MAX_SECRET).contains(&secret.len()));
        let secret = secret.ok_or_else(|| {
            Refusal::malformed("with-secret: the secret is not Base64 of 1 to 256 bytes")
        })?;
        Self::parse_named(inner, Some(Secret::new(secret)))
    }

    /// Reads `$name$…`.
    fn parse_named(text: &str, secret: Option<Secret>) -> Result<Self, Refusal> {
        let name = text.split('$').nth(1).unwrap_or_default();
        match (name, &secret) {
            ("2a" | "2b" | "2x" | "2y", _) => return Bcrypt::parse(text, secret).map(Self::Bcrypt),
            (_, _) if name.starts_with("argon2") => {
                return Argon2Hash::parse(text, secret).map(Self::Argon2);
            }
            ("f_scrypt", _) => {
                return firebase::parse_supertokens(text, secret.as_ref()).map(Self::Scrypt);
            }
            ("spring-pbkdf2", _) => return braces::parse_spring_pbkdf2(text, secret.as_ref()),
            (_, Some(_)) => {
                return Err(Refusal::not_supported(
                    "a secret beside a format that takes none",
                ));
            }
            (_, None) => {}
        }
        match name {
            "wp" => Bcrypt::parse_wordpress(text).map(Self::Bcrypt),
            "bcrypt-sha256" => Bcrypt::parse_passlib(text).map(Self::Bcrypt),
            "pbkdf2" | "pbkdf2-sha1" | "pbkdf2-sha256" | "pbkdf2-sha512" => {
                Pbkdf2::parse_passlib(text).map(Self::Pbkdf2)
            }
            "scrypt" => Scrypt::parse_passlib(text).map(Self::Scrypt),
            "7" => Scrypt::parse_crypt(text).map(Self::Scrypt),
            "fbscrypt" => firebase::parse_supabase(text).map(Self::Scrypt),
            "5" | "6" => ShaCrypt::parse(text).map(Self::ShaCrypt),
            "y" => Yescrypt::parse(text).map(Self::Yescrypt),
            "P" | "H" | "S" => Phpass::parse(text).map(Self::Phpass),
            _ if text.starts_with(pbkdf2::CANONICAL) => {
                Pbkdf2::parse_canonical(text).map(Self::Pbkdf2)
            }
            _ if scrypt::CANONICAL
                .iter()
                .any(|start| text.starts_with(start)) =>
            {
                Scrypt::parse_canonical(text).map(Self::Scrypt)
            }
            _ if text.starts_with(digests::CANONICAL) => {
                Digested::parse_canonical(text).map(Self::Digested)
            }
            "md5-hex" | "sha1-hex" | "sha256-hex" | "sha512-hex" => {
                let (digest, _) = name.split_at(name.len() - "-hex".len());
                Digested::parse_hex(digest, &text[name.len() + 2..]).map(Self::Digested)
            }
            "1" | "gy" | "sm3" | "sm3y" | "md5" | "sha1" => Err(Refusal::not_supported(
                "a format of crypt(3) that is left out",
            )),
            _ if name.starts_with("md5,") => Err(Refusal::not_supported(
                "a format of crypt(3) that is left out",
            )),
            _ if name.len() >= 5 && text::hex(&format!("{name:0>8}")).is_some() => {
                Scrypt::parse_spring(text).map(Self::Scrypt)
            }
            _ => Err(Refusal::unknown(
                "an unknown name between the first two `$`",
            )),
        }
    }

    /// The one spelling in which this hash is stored.
    fn canonical(&self) -> String {
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

    fn effort(&self) -> Effort {
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

    fn verify(&self, password: &str, memory: &mut HashingMemory) -> Result<bool, HashingError> {
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

/// The canonical text of a hash with the secret of its application.
fn with_secret(secret: &Secret, hash: &str) -> String {
    let secret = Zeroizing::new(text::to_base64(secret.expose()));
    format!("{WITH_SECRET}{}{hash}", *secret)
}

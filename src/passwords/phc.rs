//! The stored form of a hash: a PHC string, read and written. Hashes of other systems have a form of their own (`imported`).
//!
//! `$argon2id$v=19$m=19456,t=2,p=1,keyid=AQ$<salt>$<hash>`, after the PHC string format
//! (<https://github.com/P-H-C/phc-string-format>); `keyid` is the Base64 of the pepper's version.

use std::fmt;

use argon2::{
    Algorithm, Params, Version,
    password_hash::phc::{Ident, Output, PasswordHash as PhcString, Salt},
};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

use super::{
    Argon2Cost,
    error::{HashingError, PasswordError},
    imported,
};

/// What is stored in place of a hash begins with this where there is no password.
const ABSENT: &str = "$none$";

/// What every PHC string of the Argon2 family begins with.
const ARGON2: &str = "$argon2";

/// A stored hash: a PHC string. `Debug` is redacted, for hashes invite guessing.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// A hash read from the database. Whether it is readable is checked when it is verified.
    pub fn from_stored(phc: String) -> Self {
        Self(phc)
    }

    /// What is stored for a user who has no password yet: no password matches it, and no other user's is the same, so that a
    /// one-time token that is bound to it is this user's.
    ///
    /// # Errors
    /// [`PasswordError::Internal`]: the system has no randomness.
    pub fn absent() -> Result<Self, PasswordError> {
        let mut bytes = [0; 16];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| HashingError::NoRandomness)?;
        Ok(Self(ABSENT.to_owned() + &STANDARD_NO_PAD.encode(bytes)))
    }

    /// Whether the user has no password yet.
    pub fn is_absent(&self) -> bool {
        self.0.starts_with(ABSENT)
    }

    /// What every stored hash contains that was made with the pepper of `version`, and no other; `None`
    /// stands for any pepper.
    pub fn mark_of_pepper(version: Option<u8>) -> String {
        let key_id = version.map(|version| STANDARD_NO_PAD.encode([version]) + "$");
        format!("keyid={}", key_id.unwrap_or_default())
    }

    /// What the hash costs, in the text with which it begins, for example `$argon2id$v=19$m=19456,t=2,p=1`: all before
    /// the salt but the key id and the associated data. An imported hash has parameters like
    /// `$imported$k=bcrypt,w=4096`. `None` when the hash is unreadable.
    pub fn parameters(&self) -> Option<String> {
        match self.0.starts_with(ARGON2) {
            true => self.argon2_parameters().map(str::to_owned),
            false => imported::parameters(&self.0),
        }
    }

    /// Whether it is an Argon2 hash in the clear, as we make them.
    pub(super) fn is_argon2(&self) -> bool {
        self.0.starts_with(ARGON2)
    }

    fn argon2_parameters(&self) -> Option<&str> {
        Parts::parse(&self.0)?;
        let before_salt = self.0.rsplitn(3, '$').nth(2)?;
        let end = [",keyid=", ",data="]
            .into_iter()
            .filter_map(|field| before_salt.find(field))
            .min();
        Some(&before_salt[..end.unwrap_or(before_salt.len())])
    }

    /// The PHC string, to be stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash([redacted])")
    }
}

impl Argon2Cost {
    /// Reads the cost from text of the form of [`PasswordHash::parameters`].
    pub(super) fn of_parameters(text: &str) -> Option<Self> {
        let phc = PhcString::new(text).ok()?;
        Algorithm::try_from(phc.algorithm.as_str()).ok()?;
        Some(Self::of(&Params::try_from(&phc).ok()?))
    }
}

/// The content of a PHC string of the Argon2 family.
#[derive(Debug)]
pub(super) struct Parts {
    pub algorithm: Algorithm,
    pub version: Version,
    /// Cost, key id, and the length of the output.
    pub params: Params,
    pub salt: Salt,
    pub output: Output,
}

impl Parts {
    /// Reads a hash.
    ///
    /// # Errors
    /// [`HashingError::Unreadable`].
    pub fn read(stored: &PasswordHash) -> Result<Self, HashingError> {
        Self::parse(stored.as_str()).ok_or(HashingError::Unreadable)
    }

    fn parse(text: &str) -> Option<Self> {
        let phc = PhcString::new(text).ok()?;
        // As the reference decoder does.
        let version = phc.version.unwrap_or(Version::V0x10.into());
        Some(Self {
            algorithm: phc.algorithm.as_str().parse().ok()?,
            version: version.try_into().ok()?,
            params: Params::try_from(&phc).ok()?,
            salt: phc.salt?,
            output: phc.hash?,
        })
    }

    /// Writes a hash.
    ///
    /// # Errors
    /// [`HashingError::Unreadable`]: parameters that cannot be put in this form. Those that Argon2
    /// accepted can.
    pub fn write(&self) -> Result<PasswordHash, HashingError> {
        let unreadable = |_| HashingError::Unreadable;
        let phc = PhcString {
            algorithm: Ident::new(self.algorithm.as_str()).map_err(unreadable)?,
            version: Some(self.version.into()),
            params: (&self.params)
                .try_into()
                .map_err(|_: argon2::password_hash::Error| HashingError::Unreadable)?,
            salt: Some(self.salt),
            hash: Some(self.output),
        };
        Ok(PasswordHash(phc.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Parts, HashingError> {
        Parts::read(&PasswordHash::from_stored(text.to_owned()))
    }

    #[test]
    fn a_hash_that_was_read_is_written_as_the_same_text() {
        for text in [
            "$argon2id$v=19$m=19456,t=2,p=1,keyid=AQ$AAECAwQFBgcICQoLDA0ODw$MQq9e48aEaQSrmmhusRXHg",
            "$argon2i$v=16$m=64,t=3,p=2$AAECAwQFBgcICQoLDA0ODw$MQq9e48aEaQSrmmhusRXHg",
        ] {
            assert_eq!(read(text).unwrap().write().unwrap().as_str(), text);
        }
    }

    #[test]
    fn a_hash_contains_the_mark_of_its_pepper() {
        let text =
            "$argon2id$v=19$m=64,t=2,p=1,keyid=AQ$AAECAwQFBgcICQoLDA0ODw$MQq9e48aEaQSrmmhusRXHg";
        let contains = |version| text.contains(&PasswordHash::mark_of_pepper(version));
        assert!(contains(Some(1)) && contains(None) && !contains(Some(2)));
        // Only the case of a letter tells it from version 1.
        assert!(!contains(Some(105)));
    }

    #[test]
    fn the_parameters_before_the_salt_exclude_the_key_id() {
        for (text, parameters) in [
            (
                "$argon2id$v=19$m=19456,t=2,p=1,keyid=AQ$AAECAwQFBgcICQoLDA0ODw$MQq9e48aEaQSrmmhusRXHg",
                Some("$argon2id$v=19$m=19456,t=2,p=1"),
            ),
            (
                "$argon2i$m=64,t=3,p=2$AAECAwQFBgcICQoLDA0ODw$MQq9e48aEaQSrmmhusRXHg",
                Some("$argon2i$m=64,t=3,p=2"),
            ),
            (
                "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
                Some("$imported$k=bcrypt,w=4096"),
            ),
            ("$2b$12$abc", None),
            ("", None),
        ] {
            let hash = PasswordHash::from_stored(text.to_owned());
            assert_eq!(hash.parameters().as_deref(), parameters, "{text}");
            let cost = parameters.and_then(Argon2Cost::of_parameters);
            let read = Parts::read(&hash)
                .ok()
                .map(|parts| Argon2Cost::of(&parts.params));
            assert_eq!(cost, read);
        }
    }

    #[test]
    fn a_hash_without_a_version_has_the_first_version() {
        let text = "$argon2id$m=64,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$MQq9e48aEaQSrmmhusRXHg";
        assert_eq!(read(text).unwrap().version, Version::V0x10);
    }

    #[test]
    fn debug_is_redacted() {
        let hash = PasswordHash::from_stored("$argon2id$secret".to_owned());
        assert_eq!(format!("{hash:?}"), "PasswordHash([redacted])");
    }
}

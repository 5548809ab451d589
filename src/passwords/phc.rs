//! The stored form of a hash: a PHC string, read and written.
//!
//! `$argon2id$v=19$m=19456,t=2,p=1,keyid=AQ$<salt>$<hash>`, after the PHC string format
//! (<https://github.com/P-H-C/phc-string-format>); `keyid` is the Base64 of the pepper's version.

use std::fmt;

use argon2::{
    Algorithm, Params, Version,
    password_hash::phc::{Ident, Output, PasswordHash as PhcString, Salt},
};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

use super::error::HashingFault;

/// A stored hash: a PHC string. `Debug` is redacted, for hashes invite guessing.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// A hash read back from the database. What is wrong with it shows when it is verified.
    pub fn from_stored(phc: String) -> Self {
        Self(phc)
    }

    /// What every stored hash contains that was made with the pepper of `version`, and no other; `None`
    /// stands for any pepper.
    pub fn mark_of_pepper(version: Option<u8>) -> String {
        let key_id = version.map(|version| STANDARD_NO_PAD.encode([version]) + "$");
        format!("keyid={}", key_id.unwrap_or_default())
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

/// What a PHC string of the Argon2 family says.
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
    /// [`HashingFault::Unreadable`].
    pub fn read(stored: &PasswordHash) -> Result<Self, HashingFault> {
        Self::parse(stored.as_str()).ok_or(HashingFault::Unreadable)
    }

    fn parse(text: &str) -> Option<Self> {
        let phc = PhcString::new(text).ok()?;
        // The reference decoder reads a missing version as the first one, and so must we.
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
    /// [`HashingFault::Unreadable`]: parameters that cannot be put in this form. Those that Argon2
    /// accepted can.
    pub fn write(&self) -> Result<PasswordHash, HashingFault> {
        let unreadable = |_| HashingFault::Unreadable;
        let phc = PhcString {
            algorithm: Ident::new(self.algorithm.as_str()).map_err(unreadable)?,
            version: Some(self.version.into()),
            params: (&self.params)
                .try_into()
                .map_err(|_: argon2::password_hash::Error| HashingFault::Unreadable)?,
            salt: Some(self.salt),
            hash: Some(self.output),
        };
        Ok(PasswordHash(phc.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Parts, HashingFault> {
        Parts::read(&PasswordHash::from_stored(text.to_owned()))
    }

    #[test]
    fn what_is_read_is_written_again() {
        for text in [
            "$argon2id$v=19$m=19456,t=2,p=1,keyid=AQ$AAECAwQFBgcICQoLDA0ODw$MQq9e48aEaQSrmmhusRXHg",
            "$argon2i$v=16$m=64,t=3,p=2$AAECAwQFBgcICQoLDA0ODw$MQq9e48aEaQSrmmhusRXHg",
        ] {
            assert_eq!(read(text).unwrap().write().unwrap().as_str(), text);
        }
    }

    #[test]
    fn a_hash_bears_the_mark_of_its_pepper() {
        let text =
            "$argon2id$v=19$m=64,t=2,p=1,keyid=AQ$AAECAwQFBgcICQoLDA0ODw$MQq9e48aEaQSrmmhusRXHg";
        let bears = |version| text.contains(&PasswordHash::mark_of_pepper(version));
        assert!(bears(Some(1)) && bears(None) && !bears(Some(2)));
        // Only the case of a letter tells it from version 1.
        assert!(!bears(Some(105)));
    }

    #[test]
    fn without_a_version_it_is_the_first() {
        let text = "$argon2id$m=64,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$MQq9e48aEaQSrmmhusRXHg";
        assert_eq!(read(text).unwrap().version, Version::V0x10);
    }

    #[test]
    fn debug_is_redacted() {
        let hash = PasswordHash::from_stored("$argon2id$secret".to_owned());
        assert_eq!(format!("{hash:?}"), "PasswordHash([redacted])");
    }
}

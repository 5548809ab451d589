//! What an import needs of the passwords layer: no worker threads and no hashing, only the keys.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

use super::{
    error::{HashingError, PasswordError},
    formats::StoredHash,
    imported,
    pepper::Pepper,
    phc::PasswordHash,
};

/// Separates marks from the other uses of the pepper.
const LABEL: &[u8] = b"countersign mark of an imported record, HMAC-SHA-256, version 1";

/// Bytes of a mark: two records of one address have the same by accident once in 2^128.
const MARK_BYTES: usize = 16;

/// Encrypts imported hashes, and marks imported records. Clones share nothing that changes.
#[derive(Clone)]
pub struct HashSealer {
    active: Pepper,
    /// One key for each pepper; that of the active one is first.
    mark_keys: Vec<hmac::Key>,
}

impl HashSealer {
    /// Seals under the first of `peppers`.
    ///
    /// # Errors
    /// [`PasswordError::Internal`]: there is no pepper.
    pub fn new(peppers: &[Pepper]) -> Result<Self, PasswordError> {
        let active = peppers.first().ok_or(HashingError::BadPeppers)?.clone();
        let mark_key = |pepper: &Pepper| {
            let pepper = hmac::Key::new(hmac::HMAC_SHA256, pepper.key.expose());
            hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&pepper, LABEL).as_ref())
        };
        Ok(Self {
            active,
            mark_keys: peppers.iter().map(mark_key).collect(),
        })
    }

    /// The form in which an imported hash is stored: encrypted under the active pepper, so that a stolen database alone
    /// allows no guessing.
    ///
    /// # Errors
    /// [`PasswordError::Internal`]: the system has no randomness.
    pub fn seal(&self, hash: &StoredHash) -> Result<PasswordHash, PasswordError> {
        let sealed = imported::seal(hash, &self.active)?;
        Ok(PasswordHash::from_stored(sealed))
    }

    /// The marks of a record made of these parts: by the active pepper first, then by each earlier one. Equal records
    /// have equal marks. A mark is a MAC and no plain digest, because a record contains a password hash, which a plain
    /// digest would let whoever has a copy of the database guess.
    pub fn marks(&self, parts: &[&[u8]]) -> Vec<String> {
        let mark = |key: &hmac::Key| {
            let mut mac = hmac::Context::with_key(key);
            for part in parts {
                // The lengths keep parts apart that are the same text together.
                mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
                mac.update(part);
            }
            STANDARD_NO_PAD.encode(&mac.sign().as_ref()[..MARK_BYTES])
        };
        self.mark_keys.iter().map(mark).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn sealer(versions: &[u8]) -> HashSealer {
        let pepper = |version: &u8| Pepper {
            version: *version,
            key: Secret::new([*version; 32]),
        };
        HashSealer::new(&versions.iter().map(pepper).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn equal_records_have_equal_marks_and_different_records_different_ones() {
        let sealer = sealer(&[1]);
        let mark = |parts: &[&[u8]]| sealer.marks(parts).remove(0);
        assert_eq!(mark(&[b"ada", b"hash"]), mark(&[b"ada", b"hash"]));
        for other in [
            &[&b"ada"[..], b"hash2"][..],
            &[b"adah", b"ash"],
            &[b"ada", b"hash", b""],
        ] {
            assert_ne!(mark(&[b"ada", b"hash"]), mark(other));
        }
    }

    #[test]
    fn the_mark_of_an_earlier_pepper_is_among_the_marks() {
        let before = sealer(&[1]).marks(&[b"ada"]);
        let after = sealer(&[2, 1]).marks(&[b"ada"]);
        assert_eq!((before.len(), after.len()), (1, 2));
        assert_ne!(before[0], after[0]);
        assert_eq!(before[0], after[1]);
    }

    #[test]
    fn without_a_pepper_there_is_no_sealer() {
        assert!(HashSealer::new(&[]).is_err());
    }
}

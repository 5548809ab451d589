//! Private keys and secrets of factors at rest: AES-256-GCM under the master key, bound to the name of their row.

use aws_lc_rs::aead::{Aad, MAX_TAG_LEN, NONCE_LEN, Nonce};
use zeroize::Zeroizing;

use super::derived_keys::KeySet;

/// The sealed text is forged, garbled, or sealed by another master key.
#[derive(Debug, thiserror::Error)]
#[error("an encrypted value cannot be decrypted with the configured master keys")]
pub struct UnsealError;

impl KeySet {
    /// Encrypts `plain` for the row that `name` names. Layout: nonce, ciphertext, tag.
    pub fn seal(&self, name: &str, plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).expect("the system has randomness");
        let mut sealed = Vec::with_capacity(NONCE_LEN + plain.len() + MAX_TAG_LEN);
        sealed.extend_from_slice(&nonce);
        // The buffer that is encrypted in place holds the plain text only until the call returns.
        let mut body = Zeroizing::new(plain.to_vec());
        let tag = self
            .sealing
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(name.as_bytes()),
                body.as_mut_slice(),
            )
            .expect("a private key is far below the length limit");
        sealed.extend_from_slice(&body);
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    /// Decrypts what [`seal`](Self::seal) made for the same `name`.
    ///
    /// # Errors
    /// It was sealed under another name or another master key, or was changed since.
    pub fn open(&self, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN).ok_or(UnsealError)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| UnsealError)?;
        let mut body = Zeroizing::new(body.to_vec());
        let length = self
            .sealing
            .open_in_place(nonce, Aad::from(name.as_bytes()), &mut body)
            .map_err(|_| UnsealError)?
            .len();
        body.truncate(length);
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use crate::{config::MasterKey, secret::Secret, tokens::DerivedKeys};

    fn keys(byte: u8) -> DerivedKeys {
        DerivedKeys::derive(&[MasterKey {
            version: 1,
            key: Secret::new([byte; 32]),
        }])
    }

    #[test]
    fn only_the_same_key_and_name_open_a_sealed_text() {
        let (ours, other) = (keys(1), keys(2));
        let sealed = ours.active().seal("kid", b"private");
        assert!(!sealed.windows(7).any(|window| window == b"private"));
        assert_eq!(
            ours.active().open("kid", &sealed).unwrap().as_slice(),
            b"private"
        );
        assert!(ours.active().open("another kid", &sealed).is_err());
        assert!(other.active().open("kid", &sealed).is_err());
        for i in 0..sealed.len() {
            let mut garbled = sealed.clone();
            garbled[i] ^= 1;
            assert!(ours.active().open("kid", &garbled).is_err());
            assert!(ours.active().open("kid", &sealed[..i]).is_err());
        }
    }
}

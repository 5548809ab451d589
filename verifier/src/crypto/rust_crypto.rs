//! Signatures in pure Rust. `rsa` is used with public keys only: what is known of its timing concerns private ones.

use p256::ecdsa::signature::Verifier as _;
use rsa::{BoxedUint, PublicKey, pkcs1v15, sha2::Sha256};

pub(super) enum Key {
    P256(p256::ecdsa::VerifyingKey),
    Ed25519(ed25519_dalek::VerifyingKey),
    Rsa(pkcs1v15::VerifyingKey<Sha256>),
}

impl Key {
    pub(super) fn p256(point: &[u8; 65]) -> Option<Self> {
        let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(point).ok()?;
        Some(Self::P256(key))
    }

    pub(super) fn ed25519(key: &[u8; 32]) -> Option<Self> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(key).ok()?;
        Some(Self::Ed25519(key))
    }

    pub(super) fn rsa(n: &[u8], e: &[u8]) -> Option<Self> {
        let (n, e) = (
            BoxedUint::from_be_slice_vartime(n),
            BoxedUint::from_be_slice_vartime(e),
        );
        let key = PublicKey::new_with_size_limits(n, e, 2_048..=8_192).ok()?;
        Some(Self::Rsa(pkcs1v15::VerifyingKey::new(key)))
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::P256(key) => p256::ecdsa::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            Self::Ed25519(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
            Self::Rsa(key) => pkcs1v15::Signature::try_from(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
        }
    }
}

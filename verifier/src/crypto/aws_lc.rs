//! Signatures by AWS-LC.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents,
};

pub(super) enum Key {
    /// Read once: for a curve, reading the point is a good part of a verification.
    Curve(ParsedPublicKey),
    Rsa {
        n: Box<[u8]>,
        e: Box<[u8]>,
    },
}

impl Key {
    pub(super) fn p256(point: &[u8; 65]) -> Option<Self> {
        let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok()?;
        Some(Self::Curve(key))
    }

    pub(super) fn ed25519(key: &[u8; 32]) -> Option<Self> {
        let key = ParsedPublicKey::new(&ED25519, key).ok()?;
        Some(Self::Curve(key))
    }

    #[expect(
        clippy::unnecessary_wraps,
        reason = "the other provider reads the key here"
    )]
    pub(super) fn rsa(n: &[u8], e: &[u8]) -> Option<Self> {
        Some(Self::Rsa {
            n: n.into(),
            e: e.into(),
        })
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Curve(key) => key.verify_sig(message, signature).is_ok(),
            Self::Rsa { n, e } => RsaPublicKeyComponents { n, e }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                .is_ok(),
        }
    }
}

//! Public keys and their signatures. The key decides on the algorithm, never the token (RFC 8725 section 3.1).

#[cfg(feature = "aws-lc-rs")]
#[path = "aws_lc.rs"]
mod provider;

#[cfg(all(feature = "rust-crypto", not(feature = "aws-lc-rs")))]
#[path = "rust_crypto.rs"]
mod provider;

#[cfg(not(any(feature = "aws-lc-rs", feature = "rust-crypto")))]
compile_error!("enable the feature `aws-lc-rs` or `rust-crypto`");

/// The shortest modulus of an RSA key, in bytes (RFC 7518 section 3.3: 2,048 bits).
const RSA_MODULUS: std::ops::RangeInclusive<usize> = 256..=1024;

/// The algorithm that a key is used with (RFC 7518 section 3.1, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
}

impl Algorithm {
    /// Whether a token may call it so. RFC 9864 calls `EdDSA` with this curve `Ed25519`.
    pub(crate) fn is_called(self, name: &str) -> bool {
        match self {
            Self::Es256 => name == "ES256",
            Self::EdDsa => name == "EdDSA" || name == "Ed25519",
            Self::Rs256 => name == "RS256",
        }
    }
}

/// A public key, read once.
pub(crate) struct PublicKey {
    pub(crate) algorithm: Algorithm,
    key: provider::Key,
}

impl PublicKey {
    /// A point on P-256 by its coordinates (RFC 7518 section 6.2.1).
    pub(crate) fn p256(x: &[u8], y: &[u8]) -> Option<Self> {
        if x.len() != 32 || y.len() != 32 {
            return None;
        }
        let mut point = [4; 65];
        point[1..33].copy_from_slice(x);
        point[33..].copy_from_slice(y);
        Some(Self {
            algorithm: Algorithm::Es256,
            key: provider::Key::p256(&point)?,
        })
    }

    /// An Ed25519 key (RFC 8037 section 2).
    pub(crate) fn ed25519(x: &[u8]) -> Option<Self> {
        Some(Self {
            algorithm: Algorithm::EdDsa,
            key: provider::Key::ed25519(x.try_into().ok()?)?,
        })
    }

    /// An RSA key by modulus and exponent, big endian (RFC 7518 section 6.3.1).
    pub(crate) fn rsa(n: &[u8], e: &[u8]) -> Option<Self> {
        let is_minimal = n.first() != Some(&0) && e.first() != Some(&0);
        if !is_minimal || !RSA_MODULUS.contains(&n.len()) || !(1..=8).contains(&e.len()) {
            return None;
        }
        Some(Self {
            algorithm: Algorithm::Rs256,
            key: provider::Key::rsa(n, e)?,
        })
    }

    /// Whether `signature` is this key's over `message`.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verifies(message, signature)
    }
}

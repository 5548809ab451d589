//! The algorithms that keys sign with: how a private key is made, read and used.
//!
//! The private keys are those of aws-lc-rs, which parses and checks one once and wipes its memory when it frees it.
//! `jsonwebtoken` 11 would parse the key again for each signature, which doubles the cost of an ES256 signature.

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    error::{KeyRejected, Unspecified},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents,
    },
};
use jsonwebtoken::{Algorithm, DecodingKey};
use zeroize::Zeroizing;

use crate::config::SigningAlgorithm;

/// A private key that is ready to sign.
enum PrivateKey {
    /// RFC 8037.
    Ed25519(Box<Ed25519KeyPair>),
    /// RFC 7518 section 3.4.
    P256(Box<EcdsaKeyPair>),
    /// RFC 7518 section 3.3.
    Rsa(Box<RsaKeyPair>),
}

/// A private key, and its public half as `jsonwebtoken` verifies with it.
pub(super) struct KeyPair {
    pub(super) algorithm: Algorithm,
    pub(super) public: DecodingKey,
    private: PrivateKey,
}

/// Makes a private key, in PKCS #8. For RSA this takes a good part of a second.
pub(super) fn generate(algorithm: SigningAlgorithm) -> Result<Zeroizing<Vec<u8>>, String> {
    let pkcs8 = match algorithm {
        SigningAlgorithm::EdDsa => generate_ed25519(),
        SigningAlgorithm::Es256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .and_then(|pair| pair.to_pkcs8v1())
            .map(|der| der.as_ref().to_vec()),
        SigningAlgorithm::Rs256With2048Bits => generate_rsa(KeySize::Rsa2048),
        SigningAlgorithm::Rs256With3072Bits => generate_rsa(KeySize::Rsa3072),
    };
    pkcs8
        .map(Zeroizing::new)
        .map_err(|_| format!("{algorithm:?} key could not be made"))
}

fn generate_ed25519() -> Result<Vec<u8>, Unspecified> {
    let pair = Ed25519KeyPair::generate()?;
    let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair)?;
    Ok(der.as_ref().to_vec())
}

fn generate_rsa(size: KeySize) -> Result<Vec<u8>, Unspecified> {
    Ok(RsaKeyPair::generate(size)?.as_der()?.as_ref().to_vec())
}

impl KeyPair {
    /// Reads a private key of the algorithm with that JOSE name (RFC 7518 section 3.1, RFC 8037).
    pub(super) fn from_pkcs8(algorithm: &str, pkcs8: &[u8]) -> Result<Self, String> {
        let pair = match algorithm {
            "EdDSA" => Self::ed25519(pkcs8),
            "ES256" => Self::p256(pkcs8),
            "RS256" => Self::rsa(pkcs8),
            _ => return Err("algorithm not supported".to_owned()),
        };
        pair.map_err(|cause| cause.to_string())
    }

    fn ed25519(pkcs8: &[u8]) -> Result<Self, KeyRejected> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8)?;
        Ok(Self {
            algorithm: Algorithm::EdDSA,
            public: DecodingKey::from_ed_der(pair.public_key().as_ref()),
            private: PrivateKey::Ed25519(Box::new(pair)),
        })
    }

    fn p256(pkcs8: &[u8]) -> Result<Self, KeyRejected> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8)?;
        Ok(Self {
            algorithm: Algorithm::ES256,
            public: DecodingKey::from_ec_der(pair.public_key().as_ref()),
            private: PrivateKey::P256(Box::new(pair)),
        })
    }

    fn rsa(pkcs8: &[u8]) -> Result<Self, KeyRejected> {
        let pair = RsaKeyPair::from_pkcs8(pkcs8)?;
        let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
        Ok(Self {
            algorithm: Algorithm::RS256,
            public: DecodingKey::from_rsa_raw_components(&public.n, &public.e),
            private: PrivateKey::Rsa(Box::new(pair)),
        })
    }

    /// The signature of `message`, in the form of its algorithm: for ES256 the 64 bytes of RFC 7518 section 3.4, not DER.
    ///
    /// # Errors
    /// The random number generator or aws-lc fails.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        match &self.private {
            PrivateKey::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            PrivateKey::P256(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message)?;
                Ok(signature.as_ref().to_vec())
            }
            PrivateKey::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let random = SystemRandom::new();
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)?;
                Ok(signature)
            }
        }
    }

    /// The name that new tokens carry (RFC 7518 section 3.1). RFC 9864 prefers `Ed25519`; `EdDSA` is
    /// what deployed verifiers know.
    pub(super) const fn name(&self) -> &'static str {
        match self.algorithm {
            Algorithm::EdDSA => "EdDSA",
            Algorithm::ES256 => "ES256",
            _ => "RS256",
        }
    }

    /// Whether a new key of `algorithm` would be of the same kind and size.
    pub(super) fn is_of(&self, algorithm: SigningAlgorithm) -> bool {
        match algorithm {
            SigningAlgorithm::EdDsa => self.algorithm == Algorithm::EdDSA,
            SigningAlgorithm::Es256 => self.algorithm == Algorithm::ES256,
            SigningAlgorithm::Rs256With2048Bits => self.rsa_bits() == Some(2048),
            SigningAlgorithm::Rs256With3072Bits => self.rsa_bits() == Some(3072),
        }
    }

    /// The length of the modulus; `None` for a key on a curve.
    fn rsa_bits(&self) -> Option<usize> {
        match &self.private {
            PrivateKey::Rsa(pair) => Some(pair.public_modulus_len() * 8),
            PrivateKey::Ed25519(_) | PrivateKey::P256(_) => None,
        }
    }
}

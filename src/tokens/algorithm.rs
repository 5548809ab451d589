//! The algorithms that keys sign with: how a private key is made, and how `jsonwebtoken` is given it.

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    error::{KeyRejected, Unspecified},
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair,
        RsaPublicKeyComponents,
    },
};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use zeroize::Zeroizing;

use crate::config::SigningAlgorithm;

/// The length of what precedes the PKCS #1 form of an RSA key in its PKCS #8 form (RFC 5208 section 5): the same for all
/// keys from 1024 bits on.
const PKCS8_RSA_HEADER: usize = 26;

/// A private key as `jsonwebtoken` signs with it, which wipes it when it is dropped, and its public half.
pub(super) struct KeyPair {
    pub(super) algorithm: Algorithm,
    pub(super) private: EncodingKey,
    pub(super) public: DecodingKey,
    /// The length of the modulus in bits; 0 for a key on a curve.
    rsa_bits: usize,
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
            private: EncodingKey::from_ed_der(pkcs8),
            public: DecodingKey::from_ed_der(pair.public_key().as_ref()),
            rsa_bits: 0,
        })
    }

    fn p256(pkcs8: &[u8]) -> Result<Self, KeyRejected> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8)?;
        Ok(Self {
            algorithm: Algorithm::ES256,
            private: EncodingKey::from_ec_der(pkcs8),
            public: DecodingKey::from_ec_der(pair.public_key().as_ref()),
            rsa_bits: 0,
        })
    }

    fn rsa(pkcs8: &[u8]) -> Result<Self, KeyRejected> {
        RsaKeyPair::from_pkcs8(pkcs8)?;
        let pkcs1 = &pkcs8[PKCS8_RSA_HEADER..];
        let pair = RsaKeyPair::from_der(pkcs1)?;
        let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
        Ok(Self {
            algorithm: Algorithm::RS256,
            private: EncodingKey::from_rsa_der(pkcs1),
            public: DecodingKey::from_rsa_raw_components(&public.n, &public.e),
            rsa_bits: pair.public_modulus_len() * 8,
        })
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
    pub(super) const fn is_of(&self, algorithm: SigningAlgorithm) -> bool {
        match algorithm {
            SigningAlgorithm::EdDsa => matches!(self.algorithm, Algorithm::EdDSA),
            SigningAlgorithm::Es256 => matches!(self.algorithm, Algorithm::ES256),
            SigningAlgorithm::Rs256With2048Bits => self.rsa_bits == 2048,
            SigningAlgorithm::Rs256With3072Bits => self.rsa_bits == 3072,
        }
    }
}

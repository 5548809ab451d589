//! The algorithms that keys sign with: how a private key is made, read and used.
//!
//! The key pairs are those of aws-lc-rs, read once: `jsonwebtoken` would read the private key again for
//! every signature. aws-lc wipes their memory when it frees it.

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair as _, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
        RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents,
    },
};
use jsonwebtoken::DecodingKey;
use zeroize::Zeroizing;

use crate::config::SigningAlgorithm;

/// A private key that is ready to sign.
pub(super) enum KeyPair {
    /// RFC 8037.
    Ed25519(Box<Ed25519KeyPair>),
    /// RFC 7518 section 3.4.
    P256(Box<EcdsaKeyPair>),
    /// RFC 7518 section 3.3.
    Rsa(Box<RsaKeyPair>),
}

/// Makes a private key, in PKCS #8. For RSA this takes a good part of a second.
pub(super) fn generate(algorithm: SigningAlgorithm) -> Result<Zeroizing<Vec<u8>>, String> {
    let failed = |_| format!("{algorithm:?} key could not be made");
    match algorithm {
        SigningAlgorithm::EdDsa => {
            let pair = Ed25519KeyPair::generate().map_err(failed)?;
            AsDer::<Pkcs8V1Der<'_>>::as_der(&pair)
                .map(|der| Zeroizing::new(der.as_ref().to_vec()))
                .map_err(failed)
        }
        SigningAlgorithm::Es256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .and_then(|pair| pair.to_pkcs8v1())
            .map(|der| Zeroizing::new(der.as_ref().to_vec()))
            .map_err(failed),
        SigningAlgorithm::Rs256With2048Bits => generate_rsa(KeySize::Rsa2048).map_err(failed),
        SigningAlgorithm::Rs256With3072Bits => generate_rsa(KeySize::Rsa3072).map_err(failed),
    }
}

fn generate_rsa(size: KeySize) -> Result<Zeroizing<Vec<u8>>, aws_lc_rs::error::Unspecified> {
    let der = RsaKeyPair::generate(size)?.as_der()?;
    Ok(Zeroizing::new(der.as_ref().to_vec()))
}

impl KeyPair {
    /// Reads a private key of the algorithm with that JOSE name.
    pub(super) fn from_pkcs8(algorithm: &str, pkcs8: &[u8]) -> Result<Self, String> {
        let rejected = |cause: aws_lc_rs::error::KeyRejected| cause.to_string();
        match algorithm {
            "EdDSA" => Ed25519KeyPair::from_pkcs8(pkcs8)
                .map(|pair| Self::Ed25519(Box::new(pair)))
                .map_err(rejected),
            "ES256" => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8)
                .map(|pair| Self::P256(Box::new(pair)))
                .map_err(rejected),
            "RS256" => RsaKeyPair::from_pkcs8(pkcs8)
                .map(|pair| Self::Rsa(Box::new(pair)))
                .map_err(rejected),
            _ => Err("algorithm not supported".to_owned()),
        }
    }

    /// The algorithm as `jsonwebtoken` names it.
    pub(super) const fn jwa(&self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Ed25519(_) => jsonwebtoken::Algorithm::EdDSA,
            Self::P256(_) => jsonwebtoken::Algorithm::ES256,
            Self::Rsa(_) => jsonwebtoken::Algorithm::RS256,
        }
    }

    /// The name that new tokens carry (RFC 7518 section 3.1). RFC 9864 prefers `Ed25519`; `EdDSA` is
    /// what deployed verifiers know.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "EdDSA",
            Self::P256(_) => "ES256",
            Self::Rsa(_) => "RS256",
        }
    }

    /// Whether a new key of `algorithm` would be of the same kind and size.
    pub(super) fn is_of(&self, algorithm: SigningAlgorithm) -> bool {
        match (self, algorithm) {
            (Self::Ed25519(_), SigningAlgorithm::EdDsa)
            | (Self::P256(_), SigningAlgorithm::Es256) => true,
            (Self::Rsa(pair), SigningAlgorithm::Rs256With2048Bits) => {
                pair.public_modulus_len() * 8 == 2048
            }
            (Self::Rsa(pair), SigningAlgorithm::Rs256With3072Bits) => {
                pair.public_modulus_len() * 8 == 3072
            }
            _ => false,
        }
    }

    /// The public half, as `jsonwebtoken` reads it.
    pub(super) fn decoding_key(&self) -> DecodingKey {
        match self {
            Self::Ed25519(pair) => DecodingKey::from_ed_der(pair.public_key().as_ref()),
            Self::P256(pair) => DecodingKey::from_ec_der(pair.public_key().as_ref()),
            Self::Rsa(pair) => {
                let parts = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                DecodingKey::from_rsa_raw_components(&parts.n, &parts.e)
            }
        }
    }

    /// The public half, ready to verify.
    pub(super) fn parsed_public_key(&self) -> Result<ParsedPublicKey, String> {
        match self {
            Self::Ed25519(pair) => ParsedPublicKey::new(&ED25519, pair.public_key()),
            Self::P256(pair) => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key()),
            Self::Rsa(pair) => ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key()),
        }
        .map_err(|cause| cause.to_string())
    }

    /// Signs; ES256 gives the 64 bytes that RFC 7518 section 3.4 asks for, not DER.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, aws_lc_rs::error::Unspecified> {
        match self {
            Self::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Self::P256(pair) => pair
                .sign(&SystemRandom::new(), message)
                .map(|signature| signature.as_ref().to_vec()),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(
                    &RSA_PKCS1_SHA256,
                    &SystemRandom::new(),
                    message,
                    &mut signature,
                )?;
                Ok(signature)
            }
        }
    }
}

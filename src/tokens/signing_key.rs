//! One signing key: what it signs with, what verifies it, and its name.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, Header,
    jwk::{AlgorithmParameters, Jwk, PublicKeyUse, ThumbprintHash},
};
use serde::Serialize;
use zeroize::Zeroizing;

use super::algorithm::{KeyPair, generate};
use crate::config::SigningAlgorithm;

/// RFC 9068 section 2.1; keeps an ID token or any other JWT from passing as an access token.
pub(super) const TOKEN_TYPE: &str = "at+jwt";

/// Room for the longest signature, of RSA with 3072 bits in base64url, and the two dots.
const MAX_SIGNATURE_LENGTH: usize = 514;

/// A key that access tokens are signed with.
pub struct SigningKey {
    kid: String,
    pair: KeyPair,
    /// The header of every token that it signs, in base64url.
    header: String,
    jwk: Jwk,
}

/// The private key cannot be made or read.
#[derive(Debug, thiserror::Error)]
#[error("unusable {algorithm} signing key: {cause}")]
pub struct SigningKeyError {
    algorithm: String,
    cause: String,
}

impl SigningKeyError {
    /// The thread that was to make a key failed.
    pub(super) fn not_made(cause: &impl std::fmt::Display) -> Self {
        Self {
            algorithm: "new".to_owned(),
            cause: cause.to_string(),
        }
    }
}

impl SigningKey {
    /// Makes a new key; its PKCS #8 is returned beside it, to be sealed. It blocks: for RSA by a good
    /// part of a second.
    pub(super) fn generate(
        algorithm: SigningAlgorithm,
    ) -> Result<(Self, Zeroizing<Vec<u8>>), SigningKeyError> {
        let name = match algorithm {
            SigningAlgorithm::EdDsa => "EdDSA",
            SigningAlgorithm::Es256 => "ES256",
            SigningAlgorithm::Rs256With2048Bits | SigningAlgorithm::Rs256With3072Bits => "RS256",
        };
        let pkcs8 = generate(algorithm).map_err(|cause| SigningKeyError {
            algorithm: name.to_owned(),
            cause,
        })?;
        Ok((Self::from_pkcs8(name, &pkcs8)?, pkcs8))
    }

    /// Reads a private key of the algorithm with that JOSE name (RFC 7518, RFC 8037).
    pub(super) fn from_pkcs8(
        algorithm: &str,
        pkcs8: &Zeroizing<Vec<u8>>,
    ) -> Result<Self, SigningKeyError> {
        let fail = |cause: String| SigningKeyError {
            algorithm: algorithm.to_owned(),
            cause,
        };
        let pair = KeyPair::from_pkcs8(algorithm, pkcs8).map_err(fail)?;
        let mut jwk = Jwk::from_decoding_key(&pair.public, Some(pair.algorithm))
            .map_err(|error| fail(error.to_string()))?;
        let kid = thumbprint(&jwk).map_err(fail)?;
        jwk.common.key_id = Some(kid.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        let mut header = Header::new(pair.algorithm);
        header.typ = Some(TOKEN_TYPE.to_owned());
        header.kid = Some(kid.clone());
        let header = serde_json::to_vec(&header).map_err(|error| fail(error.to_string()))?;
        let header = URL_SAFE_NO_PAD.encode(header);
        Ok(Self {
            kid,
            pair,
            header,
            jwk,
        })
    }

    /// The key's name: its RFC 7638 thumbprint.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The JOSE name of the algorithm that new tokens carry.
    pub const fn algorithm_name(&self) -> &'static str {
        self.pair.name()
    }

    /// Whether a new key of `algorithm` would be of the same kind and size.
    pub fn is_of(&self, algorithm: SigningAlgorithm) -> bool {
        self.pair.is_of(algorithm)
    }

    /// The public key as RFC 7517 publishes it.
    pub const fn jwk(&self) -> &Jwk {
        &self.jwk
    }

    /// Whether a token of this key may call its algorithm so: the key decides, never the token
    /// (RFC 8725 section 3.1). RFC 9864 calls `EdDSA` with this curve `Ed25519`.
    pub(super) fn accepts_algorithm(&self, name: &str) -> bool {
        name == self.algorithm_name()
            || self.pair.algorithm == Algorithm::EdDSA && name == "Ed25519"
    }

    /// A token with these claims, signed, in the compact serialisation (RFC 7515 section 3.1). `None` when the claims are
    /// no JSON or aws-lc fails.
    pub(super) fn token(&self, claims: &impl Serialize) -> Option<String> {
        let payload = serde_json::to_vec(claims).ok()?;
        let mut token =
            String::with_capacity(self.header.len() + payload.len() * 4 / 3 + MAX_SIGNATURE_LENGTH);
        token.push_str(&self.header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut token);
        let signature = self.pair.sign(token.as_bytes()).ok()?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Some(token)
    }

    /// Whether `signature` (base64url) is this key's over `message`, which is `header.payload`.
    pub(super) fn verifies(&self, message: &[u8], signature: &str) -> bool {
        let KeyPair {
            algorithm, public, ..
        } = &self.pair;
        jsonwebtoken::crypto::verify(signature, message, public, *algorithm).unwrap_or(false)
    }

    /// The signature of any message, in base64url.
    #[cfg(test)]
    pub(super) fn sign(&self, message: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(self.pair.sign(message).expect("aws-lc signs"))
    }
}

/// RFC 7638, computed by `jsonwebtoken`; that only a public key gets a `kid` is checked here.
fn thumbprint(jwk: &Jwk) -> Result<String, String> {
    match &jwk.algorithm {
        AlgorithmParameters::OctetKeyPair(_)
        | AlgorithmParameters::EllipticCurve(_)
        | AlgorithmParameters::RSA(_) => jwk
            .thumbprint(ThumbprintHash::SHA256)
            .map_err(|error| error.to_string()),
        _ => Err("not an asymmetric key".to_owned()),
    }
}

#[cfg(test)]
#[path = "signing_key_tests.rs"]
mod tests;

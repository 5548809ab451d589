//! One signing key: what it signs with, what verifies it, and its name.
//!
//! Other algorithms get their place here: a variant of [`Algorithm`] beside `EdDSA`, its key
//! generation, and its name in the header.

use aws_lc_rs::{encoding::AsDer, signature::Ed25519KeyPair};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey,
    jwk::{AlgorithmParameters, Jwk, PublicKeyUse, ThumbprintHash},
};
use zeroize::Zeroizing;

use crate::{clock::Timestamp, secret::Secret};

/// A key that access tokens are signed with.
pub struct SigningKey {
    kid: String,
    algorithm: Algorithm,
    private: EncodingKey,
    public: DecodingKey,
    jwk: Jwk,
    /// From when it signs.
    pub activates_at: Timestamp,
}

/// The private key cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("unusable {algorithm} signing key: {cause}")]
pub struct SigningKeyError {
    algorithm: String,
    cause: String,
}

impl SigningKey {
    /// Makes a new private key, in PKCS #8.
    pub(super) fn generate_pkcs8() -> Secret<Vec<u8>> {
        let pair = Ed25519KeyPair::generate().expect("the system has randomness");
        let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair)
            .expect("a fresh key can be encoded");
        Secret::new(der.as_ref().to_vec())
    }

    /// Reads a private key of the algorithm with that JOSE name (RFC 7518, RFC 8037).
    pub(super) fn from_pkcs8(
        algorithm: &str,
        pkcs8: &Zeroizing<Vec<u8>>,
        activates_at: Timestamp,
    ) -> Result<Self, SigningKeyError> {
        let fail = |cause: String| SigningKeyError {
            algorithm: algorithm.to_owned(),
            cause,
        };
        if algorithm != "EdDSA" {
            return Err(fail("algorithm not supported".to_owned()));
        }
        let private = EncodingKey::from_ed_der(pkcs8);
        let mut jwk = Jwk::from_encoding_key(&private, Algorithm::EdDSA)
            .map_err(|error| fail(error.to_string()))?;
        let public = DecodingKey::from_jwk(&jwk).map_err(|error| fail(error.to_string()))?;
        let kid = thumbprint(&jwk).map_err(fail)?;
        jwk.common.key_id = Some(kid.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self {
            kid,
            algorithm: Algorithm::EdDSA,
            private,
            public,
            jwk,
            activates_at,
        })
    }

    /// The key's name: its RFC 7638 thumbprint.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The JOSE name that new tokens carry. RFC 9864 prefers `Ed25519`; `EdDSA` is what deployed
    /// verifiers know.
    pub const fn algorithm_name(&self) -> &'static str {
        "EdDSA"
    }

    /// The public key as RFC 7517 publishes it.
    pub const fn jwk(&self) -> &Jwk {
        &self.jwk
    }

    /// Whether a token of this key may call its algorithm so: the key decides, never the token
    /// (RFC 8725 section 3.1).
    pub(super) fn accepts_algorithm(&self, name: &str) -> bool {
        name == self.algorithm_name() || name == "Ed25519"
    }

    /// Signs `header.payload`; the signature comes back in base64url.
    pub(super) fn sign(&self, message: &[u8]) -> Result<String, jsonwebtoken::errors::Error> {
        jsonwebtoken::crypto::sign(message, &self.private, self.algorithm)
    }

    /// Whether `signature` (base64url) is this key's over `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &str) -> bool {
        jsonwebtoken::crypto::verify(signature, message, &self.public, self.algorithm)
            .unwrap_or(false)
    }
}

/// RFC 7638. `jsonwebtoken` computes it for every key type but Ed25519's form of `OKP` is checked here
/// so that a wrong `kid` can never be published.
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
mod tests {
    use super::*;

    /// RFC 8037 appendix A.1 (the key) and A.3 (its thumbprint).
    #[test]
    fn the_thumbprint_is_that_of_rfc_8037() {
        let jwk: Jwk = serde_json::from_str(
            r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
        )
        .unwrap();
        assert_eq!(
            thumbprint(&jwk).unwrap(),
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
        );
    }

    #[test]
    fn signs_what_it_verifies_and_nothing_else() {
        let pkcs8 = Zeroizing::new(SigningKey::generate_pkcs8().expose().clone());
        let key = SigningKey::from_pkcs8("EdDSA", &pkcs8, Timestamp::default()).unwrap();
        let signature = key.sign(b"message").unwrap();
        assert!(key.verifies(b"message", &signature));
        assert!(!key.verifies(b"another", &signature));
        assert!(!key.verifies(b"message", "not base64!"));
        assert!(SigningKey::from_pkcs8("HS256", &pkcs8, Timestamp::default()).is_err());
    }
}

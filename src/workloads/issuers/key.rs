//! A public key of a trusted issuer, parsed once and bound to its algorithm.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents,
};
use serde::Deserialize;

/// A signature algorithm that the file may pin (RFC 7518 section 3.1, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum AssertionAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// RSASSA-PSS with SHA-256.
    #[serde(rename = "PS256")]
    Ps256,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl AssertionAlgorithm {
    /// The algorithm of that name in a JWT header. RFC 9864 calls `EdDSA` with Ed25519 `Ed25519`.
    pub(super) fn of_header(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "PS256" => Some(Self::Ps256),
            "ES256" => Some(Self::Es256),
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

/// The numbers of a public key, as a JWK has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyNumbers<'a> {
    /// Modulus and exponent, big endian.
    Rsa { n: &'a [u8], e: &'a [u8] },
    /// The coordinates of a point on P-256.
    P256 { x: &'a [u8], y: &'a [u8] },
    /// An Ed25519 public key.
    Ed25519 { x: &'a [u8] },
}

/// Shortest and longest modulus, in bits: RFC 7518 section 3.3 demands 2048.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Longest public exponent, in bytes. All keys in use have 65537.
const MAX_EXPONENT_LENGTH: usize = 4;

/// A public key for one algorithm.
#[derive(Debug)]
pub(super) struct IssuerKey {
    pub(super) kid: Option<String>,
    pub(super) algorithm: AssertionAlgorithm,
    key: ParsedPublicKey,
}

impl IssuerKey {
    /// The key, if its numbers fit the algorithm and can be used.
    pub(super) fn new(
        kid: Option<String>,
        algorithm: AssertionAlgorithm,
        numbers: KeyNumbers<'_>,
    ) -> Option<Self> {
        let key = match (algorithm, numbers) {
            (AssertionAlgorithm::Rs256, KeyNumbers::Rsa { n, e }) => {
                rsa(n, e)?.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
            }
            (AssertionAlgorithm::Ps256, KeyNumbers::Rsa { n, e }) => {
                rsa(n, e)?.to_parsed_public_key(&RSA_PSS_2048_8192_SHA256)
            }
            (AssertionAlgorithm::Es256, KeyNumbers::P256 { x, y }) => {
                if x.len() != 32 || y.len() != 32 {
                    return None;
                }
                // The uncompressed point (SEC 1 section 2.3.3); aws-lc checks that it is on the curve.
                let point = [&[4], x, y].concat();
                ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            }
            (AssertionAlgorithm::EdDsa, KeyNumbers::Ed25519 { x }) => {
                if x.len() != 32 {
                    return None;
                }
                ParsedPublicKey::new(&ED25519, x)
            }
            _ => return None,
        };
        Some(Self {
            kid,
            algorithm,
            key: key.ok()?,
        })
    }

    /// Whether `signature` is this key's over `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
    }
}

fn rsa<'a>(n: &'a [u8], e: &'a [u8]) -> Option<RsaPublicKeyComponents<&'a [u8]>> {
    let (n, e) = (without_leading_zeros(n), without_leading_zeros(e));
    let bits = n.len() * 8 - n.first()?.leading_zeros() as usize;
    (RSA_BITS.contains(&bits) && e.len() <= MAX_EXPONENT_LENGTH)
        .then_some(RsaPublicKeyComponents { n, e })
}

/// RFC 7518 section 6.3.1.1 forbids leading zeros; some issuers write one, as in DER.
fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

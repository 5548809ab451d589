//! The public key of a passkey: a COSE key (RFC 9052 section 7, RFC 9053 section 7, RFC 8230 section 4).

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents,
};

use super::{cbor::Map, refusal::PasskeyRefusal};

/// Bits of an RSA modulus that are accepted: a verification costs more the longer it is.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
/// Longest public exponent of RSA, in bytes. All keys in use have 65537.
const MAX_EXPONENT_LENGTH: usize = 4;

/// Labels of a COSE key.
const KTY: i64 = 1;
const ALG: i64 = 3;
/// The curve of an elliptic key, the modulus of an RSA key.
const CRV_OR_N: i64 = -1;
/// The x coordinate of an elliptic key, the exponent of an RSA key.
const X_OR_E: i64 = -2;
const Y: i64 = -3;

/// A signature algorithm that is offered to authenticators, with its number in the COSE registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum PasskeyAlgorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256 = -7,
    /// Ed25519.
    EdDsa = -8,
    /// RSASSA-PKCS1-v1_5 with SHA-256 (Windows Hello).
    Rs256 = -257,
}

impl PasskeyAlgorithm {
    /// All of them, the preferred one first. Section 5.4 of WebAuthn recommends to offer these three.
    pub const ALL: [Self; 3] = [Self::Es256, Self::EdDsa, Self::Rs256];

    /// The number in the COSE registry.
    pub const fn number(self) -> i64 {
        self as i64
    }
}

/// A public key, bound to its algorithm.
#[derive(Debug)]
pub(super) struct PublicKey {
    pub(super) algorithm: PasskeyAlgorithm,
    key: ParsedPublicKey,
}

impl PublicKey {
    /// Reads a COSE key.
    pub(super) fn parse(cose: &[u8]) -> Result<Self, PasskeyRefusal> {
        let map = Map::parse(cose).ok_or(PasskeyRefusal::PublicKey)?;
        let number = map.integer(ALG).ok_or(PasskeyRefusal::PublicKey)?;
        let algorithm = PasskeyAlgorithm::ALL
            .into_iter()
            .find(|algorithm| algorithm.number() == number)
            .ok_or(PasskeyRefusal::Algorithm)?;
        let key = match algorithm {
            PasskeyAlgorithm::Es256 => p256(&map),
            PasskeyAlgorithm::EdDsa => ed25519(&map),
            PasskeyAlgorithm::Rs256 => rsa(&map),
        };
        Ok(Self {
            algorithm,
            key: key.ok_or(PasskeyRefusal::PublicKey)?,
        })
    }

    /// Whether `signature` is this key's over `message`, in the form of section 6.5.5 of WebAuthn.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
    }
}

fn p256(map: &Map) -> Option<ParsedPublicKey> {
    const EC2: i64 = 2;
    const P256: i64 = 1;
    let (x, y) = (map.bytes(X_OR_E)?, map.bytes(Y)?);
    let is_p256 = (map.integer(KTY)?, map.integer(CRV_OR_N)?) == (EC2, P256);
    if !is_p256 || (x.len(), y.len()) != (32, 32) {
        return None;
    }
    // The uncompressed point (SEC 1 section 2.3.3); aws-lc checks that it is on the curve.
    ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, [&[4], x, y].concat()).ok()
}

fn ed25519(map: &Map) -> Option<ParsedPublicKey> {
    const OKP: i64 = 1;
    const ED25519_CURVE: i64 = 6;
    let x = map.bytes(X_OR_E)?;
    let is_ed25519 = (map.integer(KTY)?, map.integer(CRV_OR_N)?) == (OKP, ED25519_CURVE);
    (is_ed25519 && x.len() == 32)
        .then(|| ParsedPublicKey::new(&ED25519, x).ok())
        .flatten()
}

fn rsa(map: &Map) -> Option<ParsedPublicKey> {
    const RSA: i64 = 3;
    let (n, e) = (map.bytes(CRV_OR_N)?, map.bytes(X_OR_E)?);
    // RFC 8230 section 4 forbids leading zeros.
    let is_minimal = |number: &[u8]| number.first().is_some_and(|byte| *byte != 0);
    if map.integer(KTY)? != RSA || !is_minimal(n) || !is_minimal(e) || e.len() > MAX_EXPONENT_LENGTH
    {
        return None;
    }
    let bits = n.len() * 8 - n.first()?.leading_zeros() as usize;
    RSA_BITS.contains(&bits).then_some(())?;
    RsaPublicKeyComponents { n, e }
        .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
        .ok()
}

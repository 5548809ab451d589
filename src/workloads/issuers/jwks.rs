//! Reads a JWK Set (RFC 7517 section 5) of a trusted issuer. What cannot be used there is passed over, as RFC 7517 asks.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::Value;

use super::key::{AssertionAlgorithm, IssuerKey, KeyNumbers};

/// Longest JWKS that is read, in bytes. A large cloud's has some 20 KB, a SPIFFE bundle with certificates some 100 KB.
pub const MAX_JWKS_LENGTH: usize = 512 * 1024;
/// Most members of `keys`.
const MAX_KEYS: usize = 100;
/// Longest `kid` that is taken, in bytes.
const MAX_KID_LENGTH: usize = 1024;
/// Most keys that are tried for an assertion: its `kid` may be absent, or stand beside several keys.
const MAX_TRIED: usize = 8;

/// Why a document is no JWKS of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// It is longer than `MAX_JWKS_LENGTH`.
    #[error("is longer than 512 KiB")]
    TooLong,
    /// It is no JSON object with an array `keys`.
    #[error("is not a JWK Set (RFC 7517 section 5)")]
    Malformed,
    /// It has more members than are read.
    #[error("holds more than 100 keys")]
    TooManyKeys,
    /// No key is of an algorithm that the file pins.
    #[error("holds no public signature key for the algorithms of this issuer")]
    NoKey,
}

/// The keys of one issuer.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    keys: Vec<IssuerKey>,
}

/// How an issuer uses its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyRules<'a> {
    /// The algorithms that the file pins.
    pub(super) algorithms: &'a [AssertionAlgorithm],
    /// Whether it is a SPIFFE trust domain, whose bundle says `jwt-svid` instead of `sig`
    /// (SPIFFE Trust Domain and Bundle, section 4.2.2).
    pub(super) is_spiffe: bool,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

/// The members that are read. Private members, `x5c` and `x5u` are not.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default, rename = "use")]
    purpose: Option<String>,
    #[serde(default)]
    key_ops: Option<Vec<String>>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
}

impl KeySet {
    /// Reads a document.
    ///
    /// # Errors
    /// It is no JWKS, too long, or holds no key of use.
    pub(super) fn read(json: &[u8], rules: KeyRules<'_>) -> Result<Self, JwksError> {
        if json.len() > MAX_JWKS_LENGTH {
            return Err(JwksError::TooLong);
        }
        let is_object = json.trim_ascii_start().starts_with(b"{");
        let document: Document = Some(json)
            .filter(|_| is_object)
            .and_then(|json| serde_json::from_slice(json).ok())
            .ok_or(JwksError::Malformed)?;
        if document.keys.len() > MAX_KEYS {
            return Err(JwksError::TooManyKeys);
        }
        let members = document.keys.into_iter();
        let jwks = members.filter_map(|member| serde_json::from_value::<Jwk>(member).ok());
        let keys: Vec<_> = jwks.flat_map(|jwk| jwk.into_keys(rules)).collect();
        match keys.is_empty() {
            true => Err(JwksError::NoKey),
            false => Ok(Self { keys }),
        }
    }

    /// The keys that may have signed an assertion with this header. Without a `kid` all of the algorithm are tried,
    /// because some clients send none.
    pub(super) fn candidates<'a>(
        &'a self,
        algorithm: AssertionAlgorithm,
        kid: Option<&'a str>,
    ) -> impl Iterator<Item = &'a IssuerKey> {
        self.keys
            .iter()
            .filter(move |key| key.algorithm == algorithm)
            .filter(move |key| kid.is_none() || key.kid.as_deref() == kid)
            .take(MAX_TRIED)
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

impl Jwk {
    /// One key for each pinned algorithm that it can be used with: an RSA key without `alg` may sign RS256 and PS256.
    fn into_keys(self, rules: KeyRules<'_>) -> Vec<IssuerKey> {
        if !self.is_for_signatures(rules) {
            return Vec::new();
        }
        let kid = self.kid.as_deref();
        if kid.is_some_and(|kid| kid.len() > MAX_KID_LENGTH) {
            return Vec::new();
        }
        let decode = |member: &Option<String>| {
            let text = member.as_deref()?;
            URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()
        };
        let [n, e, x, y] = [&self.n, &self.e, &self.x, &self.y].map(decode);
        let numbers = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => n
                .as_deref()
                .zip(e.as_deref())
                .map(|(n, e)| KeyNumbers::Rsa { n, e }),
            ("EC", Some("P-256")) => x
                .as_deref()
                .zip(y.as_deref())
                .map(|(x, y)| KeyNumbers::P256 { x, y }),
            ("OKP", Some("Ed25519")) => x.as_deref().map(|x| KeyNumbers::Ed25519 { x }),
            _ => None,
        };
        let Some(numbers) = numbers else {
            return Vec::new();
        };
        let algorithms = rules.algorithms.iter().copied();
        algorithms
            .filter(|algorithm| self.permits(*algorithm))
            .filter_map(|algorithm| IssuerKey::new(self.kid.clone(), algorithm, numbers))
            .collect()
    }

    fn is_for_signatures(&self, rules: KeyRules<'_>) -> bool {
        let purpose = match self.purpose.as_deref() {
            None | Some("sig") => true,
            Some("jwt-svid") => rules.is_spiffe,
            Some(_) => false,
        };
        let operations = self.key_ops.as_ref();
        purpose
            && operations.is_none_or(|operations| operations.iter().any(|name| name == "verify"))
    }

    fn permits(&self, algorithm: AssertionAlgorithm) -> bool {
        let named = self.alg.as_deref();
        named.is_none_or(|name| AssertionAlgorithm::of_header(name) == Some(algorithm))
    }
}

#[cfg(test)]
#[path = "jwks_tests.rs"]
mod tests;

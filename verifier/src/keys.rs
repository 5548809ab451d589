//! The public keys of the server, as one JWK set (RFC 7517 section 5) names them.

use std::{collections::HashMap, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

use crate::crypto::PublicKey;

/// The most keys that a set may have. A server has a handful.
const MOST_KEYS: usize = 64;

/// The keys that are accepted, by their names.
#[derive(Default)]
pub(crate) struct KeySet {
    /// Rises with every other set, so that a cache knows by which one a token was verified.
    pub(crate) generation: u64,
    pub(crate) by_kid: HashMap<Box<str>, Arc<PublicKey>>,
}

/// The document is not a JWK set, or names one key twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a JWK set")]
pub struct InvalidJwks;

#[derive(Deserialize)]
struct Document {
    keys: Vec<Jwk>,
}

/// The members of a JWK that are read. Where one has another type, the whole set is refused.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

/// The keys of a JWK set. A key that this crate cannot use (another type, curve, algorithm or use, or without a `kid`) is
/// left out, as RFC 7517 section 5 advises.
pub(crate) fn parse(json: &str) -> Result<HashMap<Box<str>, Arc<PublicKey>>, InvalidJwks> {
    let document: Document = serde_json::from_str(json).map_err(|_| InvalidJwks)?;
    if document.keys.len() > MOST_KEYS {
        return Err(InvalidJwks);
    }
    let mut by_kid = HashMap::new();
    for jwk in document.keys {
        let Some(key) = public_key(&jwk) else {
            continue;
        };
        let kid = jwk.kid.filter(|kid| !kid.is_empty());
        if let Some(kid) = kid
            && by_kid.insert(kid.into_boxed_str(), Arc::new(key)).is_some()
        {
            return Err(InvalidJwks);
        }
    }
    Ok(by_kid)
}

fn public_key(jwk: &Jwk) -> Option<PublicKey> {
    if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") {
        return None;
    }
    let key = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("EC", Some("P-256")) => PublicKey::p256(&bytes(jwk.x.as_ref())?, &bytes(jwk.y.as_ref())?),
        ("OKP", Some("Ed25519")) => PublicKey::ed25519(&bytes(jwk.x.as_ref())?),
        ("RSA", None) => PublicKey::rsa(&bytes(jwk.n.as_ref())?, &bytes(jwk.e.as_ref())?),
        _ => None,
    }?;
    let is_pinned = jwk
        .alg
        .as_deref()
        .is_none_or(|name| key.algorithm.is_called(name));
    is_pinned.then_some(key)
}

fn bytes(member: Option<&String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(member?).ok()
}

impl KeySet {
    /// The key with that name, if a token of it may call its algorithm so.
    pub(crate) fn find(&self, kid: &str) -> Option<&PublicKey> {
        self.by_kid.get(kid).map(Arc::as_ref)
    }
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map()
            .entries(self.by_kid.iter().map(|(kid, key)| (kid, key.algorithm)))
            .finish()
    }
}

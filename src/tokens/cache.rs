//! Tokens whose signature has been checked once need not be checked again.

use std::{
    borrow::Borrow,
    hash::{Hash, Hasher},
    ops::Deref,
    sync::{Arc, OnceLock},
};

use quick_cache::sync::Cache;
use zeroize::Zeroizing;

use super::AccessClaims;

/// How many verified tokens are remembered; with some 1,400 bytes each this stays below 25 MB.
const CAPACITY: usize = 16_384;

/// The claims of tokens that were verified lately, keyed by the token itself.
///
/// Not by its SHA-256: that was the dearest part of a validation, and a lesser hash would have to be trusted
/// never to give two texts one name, where a comparison of the texts is exact. It protected nothing either:
/// whoever can read this process's memory finds the keys that sign tokens.
///
/// Only good tokens get in, so a flood of garbage cannot push them out. What changes after signing
/// (expiry, revocation) is checked on every call. An entry belongs to an epoch of the keyring: when a
/// key is revoked the epoch rises, and everything that was verified before has to be verified again.
pub struct VerifiedTokens(Cache<Text, Entry>);

#[derive(Clone)]
struct Entry {
    epoch: u64,
    claims: Arc<VerifiedClaims>,
}

/// A token, wiped when it leaves the cache.
///
/// Texts are compared only where the cache's keyed hashes agree, so how long a comparison takes tells nothing
/// to who guesses.
#[derive(PartialEq, Eq)]
struct Text(Zeroizing<Box<str>>);

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self.0).hash(state);
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The claims of a token that was verified, and how the edge spells them.
///
/// A token's claims never change, so the bytes in which they are answered are made once, by the first
/// call that needs them.
#[derive(Debug)]
pub struct VerifiedClaims {
    claims: AccessClaims,
    spelling: OnceLock<Box<[u8]>>,
}

impl VerifiedClaims {
    /// Claims that have not been answered yet.
    pub const fn new(claims: AccessClaims) -> Self {
        Self {
            claims,
            spelling: OnceLock::new(),
        }
    }

    /// The bytes in which they are answered; `spell` makes them, unless it did before.
    pub fn spelling(&self, spell: impl FnOnce(&AccessClaims) -> Vec<u8>) -> &[u8] {
        self.spelling
            .get_or_init(|| spell(&self.claims).into_boxed_slice())
    }
}

impl Deref for VerifiedClaims {
    type Target = AccessClaims;

    fn deref(&self) -> &AccessClaims {
        &self.claims
    }
}

impl VerifiedTokens {
    /// An empty cache.
    pub fn new() -> Self {
        Self(Cache::new(CAPACITY))
    }

    /// The claims of a token that was verified before, in this epoch.
    pub fn get(&self, token: &str, epoch: u64) -> Option<Arc<VerifiedClaims>> {
        let entry = self.0.get(token)?;
        (entry.epoch == epoch).then_some(entry.claims)
    }

    /// Remembers a token that has just been verified. `epoch` is what the keyring said *before* the
    /// token was verified: a key that is revoked meanwhile leaves an entry that nobody will find.
    pub fn insert(&self, token: &str, claims: Arc<VerifiedClaims>, epoch: u64) {
        let text = Text(Zeroizing::new(token.into()));
        self.0.insert(text, Entry { epoch, claims });
    }
}

impl Default for VerifiedTokens {
    fn default() -> Self {
        Self::new()
    }
}

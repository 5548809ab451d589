//! A cache of verified access tokens: a signature that was checked once is not checked again.

use std::{
    borrow::Borrow,
    hash::{Hash, Hasher},
    ops::Deref,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use quick_cache::sync::Cache;
use zeroize::Zeroizing;

use super::AccessClaims;

/// How many verified tokens are remembered; with some 1,700 bytes each this stays below 30 MB.
const CAPACITY: usize = 16_384;

/// The claims of tokens that were verified lately, keyed by the token itself.
///
/// Not by its SHA-256, which was the most expensive part of a validation; a weaker hash could collide, while a comparison
/// of the texts is exact. A hash protected nothing either: this process's memory holds the keys that sign tokens.
///
/// Only good tokens are added, so a flood of garbage cannot evict them. What changes after signing
/// (expiry, revocation) is checked on every call. An entry belongs to an epoch of the keyring: when a
/// key is revoked the epoch rises, and every token has to be verified again.
///
/// Misses are counted and hits are not: for hits all threads would write one counter in every validation. A miss is followed
/// by the check of a signature.
pub struct VerifiedTokens {
    cache: Cache<Text, Entry>,
    misses: Misses,
}

/// On a cache line of its own, so that writing it does not slow readers of its neighbours down.
#[derive(Default)]
#[repr(align(64))]
struct Misses(AtomicU64);

#[derive(Clone)]
struct Entry {
    epoch: u64,
    claims: Arc<VerifiedClaims>,
}

/// A token, wiped when it leaves the cache.
///
/// Texts are compared only where the cache's keyed hashes agree, so the time of a comparison does not help to guess a
/// token.
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

/// The claims of a verified token, and their encoding in responses.
///
/// A token's claims never change, so they are encoded once, by the first call that needs it.
#[derive(Debug)]
pub struct VerifiedClaims {
    claims: AccessClaims,
    encoded: OnceLock<Box<[u8]>>,
}

impl VerifiedClaims {
    /// Claims that have not been encoded yet.
    pub const fn new(claims: AccessClaims) -> Self {
        Self {
            claims,
            encoded: OnceLock::new(),
        }
    }

    /// Their encoding; `encode` is called the first time only.
    pub fn encoded(&self, encode: impl FnOnce(&AccessClaims) -> Vec<u8>) -> &[u8] {
        self.encoded
            .get_or_init(|| encode(&self.claims).into_boxed_slice())
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
        Self {
            cache: Cache::new(CAPACITY),
            misses: Misses::default(),
        }
    }

    /// The claims of a token that was verified before, in this epoch.
    pub fn get(&self, token: &str, epoch: u64) -> Option<Arc<VerifiedClaims>> {
        let entry = self.cache.get(token).filter(|entry| entry.epoch == epoch);
        if entry.is_none() {
            self.misses.0.fetch_add(1, Ordering::Relaxed);
        }
        entry.map(|entry| entry.claims)
    }

    /// How often a token was not there.
    pub fn misses(&self) -> u64 {
        self.misses.0.load(Ordering::Relaxed)
    }

    /// Adds a token that has just been verified. `epoch` is that of the keyring *before* the
    /// token was verified: if a key is revoked meanwhile, the entry is ignored.
    pub fn insert(&self, token: &str, claims: Arc<VerifiedClaims>, epoch: u64) {
        let text = Text(Zeroizing::new(token.into()));
        self.cache.insert(text, Entry { epoch, claims });
    }
}

impl Default for VerifiedTokens {
    fn default() -> Self {
        Self::new()
    }
}

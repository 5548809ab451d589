//! Tokens whose signature has been checked once need not be checked again.

use std::{
    ops::Deref,
    sync::{Arc, OnceLock},
};

use aws_lc_rs::digest::{SHA256, digest};
use quick_cache::sync::Cache;

use super::AccessClaims;

/// How many verified tokens are remembered; with some 800 bytes each this stays below 15 MB.
const CAPACITY: usize = 16_384;

/// The claims of tokens that were verified lately, keyed by the token's SHA-256.
///
/// Only good tokens get in, so a flood of garbage cannot push them out. What changes after signing
/// (expiry, revocation) is checked on every call. An entry belongs to an epoch of the keyring: when a
/// key is revoked the epoch rises, and everything that was verified before has to be verified again.
pub struct VerifiedTokens(Cache<TokenDigest, Entry>);

#[derive(Clone)]
struct Entry {
    epoch: u64,
    claims: Arc<VerifiedClaims>,
}

/// The name of a token in the cache.
pub type TokenDigest = [u8; 32];

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

    /// The name under which a token is kept: a hash, so that no token lies about in memory.
    ///
    /// SHA-256, because nothing less will do: whoever could make two texts with one name could have
    /// the one accepted for the other. With the processor's help it costs a third of a microsecond.
    pub fn digest(token: &str) -> TokenDigest {
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        key
    }

    /// The claims of a token that was verified before, in this epoch.
    pub fn get(&self, token: &TokenDigest, epoch: u64) -> Option<Arc<VerifiedClaims>> {
        let entry = self.0.get(token)?;
        (entry.epoch == epoch).then_some(entry.claims)
    }

    /// Remembers a token that has just been verified. `epoch` is what the keyring said *before* the
    /// token was verified: a key that is revoked meanwhile leaves an entry that nobody will find.
    pub fn insert(&self, token: TokenDigest, claims: Arc<VerifiedClaims>, epoch: u64) {
        self.0.insert(token, Entry { epoch, claims });
    }
}

impl Default for VerifiedTokens {
    fn default() -> Self {
        Self::new()
    }
}

//! Tokens whose signature has been checked once need not be checked again.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use quick_cache::sync::Cache;

use super::AccessClaims;

/// How many verified tokens are remembered; with some 500 bytes each this stays below 10 MB.
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
    claims: Arc<AccessClaims>,
}

/// The name of a token in the cache.
pub type TokenDigest = [u8; 32];

impl VerifiedTokens {
    /// An empty cache.
    pub fn new() -> Self {
        Self(Cache::new(CAPACITY))
    }

    /// The name under which a token is kept: a hash, so that no token lies about in memory.
    pub fn digest(token: &str) -> TokenDigest {
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        key
    }

    /// The claims of a token that was verified before, in this epoch.
    pub fn get(&self, token: &TokenDigest, epoch: u64) -> Option<Arc<AccessClaims>> {
        let entry = self.0.get(token)?;
        (entry.epoch == epoch).then_some(entry.claims)
    }

    /// Remembers a token that has just been verified. `epoch` is what the keyring said *before* the
    /// token was verified: a key that is revoked meanwhile leaves an entry that nobody will find.
    pub fn insert(&self, token: TokenDigest, claims: Arc<AccessClaims>, epoch: u64) {
        self.0.insert(token, Entry { epoch, claims });
    }
}

impl Default for VerifiedTokens {
    fn default() -> Self {
        Self::new()
    }
}

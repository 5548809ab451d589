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
/// (expiry, revocation, the key's standing) is checked on every call.
pub struct VerifiedTokens(Cache<[u8; 32], Arc<AccessClaims>>);

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

    /// The claims of a token that was verified before.
    pub fn get(&self, token: &TokenDigest) -> Option<Arc<AccessClaims>> {
        self.0.get(token)
    }

    /// Remembers a token that has just been verified.
    pub fn insert(&self, token: TokenDigest, claims: Arc<AccessClaims>) {
        self.0.insert(token, claims);
    }
}

impl Default for VerifiedTokens {
    fn default() -> Self {
        Self::new()
    }
}

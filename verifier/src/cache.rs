//! A cache of verified tokens: a signature that was checked once is not checked again.

use std::{borrow::Borrow, sync::Arc};

use quick_cache::sync::Cache;

use crate::claims::Claims;

/// The claims of tokens that were verified lately, by the text of the token.
///
/// Not by a hash: a comparison of the texts is exact, and it is quicker than SHA-256. Only good tokens are added, so a flood of
/// others evicts nothing. What changes after signing (expiry, revocation) is checked on every call. An entry belongs
/// to a generation of the keys: after every change of the keys each token is verified again.
pub(crate) struct VerifiedTokens(Cache<Text, Entry>);

#[derive(PartialEq, Eq, Hash)]
struct Text(Box<str>);

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[derive(Clone)]
struct Entry {
    generation: u64,
    claims: Arc<Claims>,
}

impl VerifiedTokens {
    /// For so many tokens.
    pub(crate) fn new(capacity: usize) -> Self {
        Self(Cache::new(capacity))
    }

    /// The claims of a token that was verified by the keys of that generation.
    pub(crate) fn get(&self, token: &str, generation: u64) -> Option<Arc<Claims>> {
        let entry = self.0.get(token)?;
        (entry.generation == generation).then_some(entry.claims)
    }

    /// Adds a token that was verified by the keys of that generation.
    pub(crate) fn insert(&self, token: &str, claims: Arc<Claims>, generation: u64) {
        let entry = Entry { generation, claims };
        self.0.insert(Text(token.into()), entry);
    }
}

//! How the service is doing, for whoever watches it.

use std::time::Duration;

use super::Auth;
use crate::{passwords::HashingLoad, store::PoolLoad};

/// How the parts are doing at one moment.
#[derive(Clone, Debug)]
pub struct Vitals {
    /// Whether the database answers.
    pub database_available: bool,
    /// The connections to it.
    pub pools: Vec<PoolLoad>,
    /// How many revocations are remembered.
    pub live_revocations: usize,
    /// How old the knowledge of revocations is.
    pub revocation_staleness: Duration,
    /// For how long the key that signs now has been signing.
    pub signing_key_age: Duration,
    /// How busy the password workers are.
    pub hashing: HashingLoad,
}

impl Auth {
    /// Asks every part; cheap, but not for every request.
    pub fn vitals(&self) -> Vitals {
        let parts = &self.parts;
        let now = parts.clock.now();
        let since = parts.keyring.signing_since(now);
        Vitals {
            database_available: parts.store.is_available(),
            pools: parts.store.pool_loads(),
            live_revocations: parts.revocations.len(),
            revocation_staleness: parts
                .revocations
                .last_read()
                .staleness(parts.clock.monotonic()),
            signing_key_age: since.map_or(Duration::ZERO, |since| now.since(since)),
            hashing: parts.passwords.load(),
        }
    }
}

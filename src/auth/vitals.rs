//! How the service is doing, asked by whoever watches it; and the keys that everybody may see.

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
        let signer = parts.keyring.signer(now);
        Vitals {
            database_available: parts.store.is_available(),
            pools: parts.store.pool_loads(),
            live_revocations: parts.revocations.len(),
            revocation_staleness: now.since(parts.revocations.as_of()),
            signing_key_age: signer.map_or(Duration::ZERO, |key| now.since(key.activates_at)),
            hashing: parts.passwords.load(),
        }
    }

    /// The public keys of everything that verifies now or will soon, as RFC 7517 publishes them.
    pub fn jwks(&self) -> String {
        self.parts.keyring.jwks(self.parts.clock.now())
    }
}

//! The state of the parts of the service, for metrics.

use std::time::Duration;

use super::Auth;
use crate::{
    mail::MailLoad,
    passwords::HashingLoad,
    store::{PoolLoad, pool_waits},
    telemetry::Durations,
};

/// The state of the parts at one moment.
#[derive(Clone, Debug)]
pub struct ServiceMetrics {
    /// Whether the database answers.
    pub database_available: bool,
    /// The connection pools of the database.
    pub pools: Vec<PoolLoad>,
    /// How long operations waited for a connection.
    pub pool_waits: Durations,
    /// Revocations in memory.
    pub live_revocations: usize,
    /// How long ago revocations were read completely.
    pub revocation_staleness: Duration,
    /// How long the current signing key has been signing.
    pub signing_key_age: Duration,
    /// The load of the password workers.
    pub hashing: HashingLoad,
    /// How long password hashes waited for a worker.
    pub hashing_waits: Durations,
    /// Access tokens whose signature had to be checked, or that were no tokens.
    pub token_cache_misses: u64,
    /// The outbox of mails.
    pub mails: MailLoad,
    /// Refused attempts that were not audited one by one, because too many waited to be written.
    pub dropped_refusals: u64,
}

impl Auth {
    /// Reads the state of every part. Cheap, but too expensive for every request.
    pub fn service_metrics(&self) -> ServiceMetrics {
        let parts = &self.parts;
        let now = parts.clock.now();
        let since = parts.keyring.signing_since(now);
        ServiceMetrics {
            database_available: parts.store.is_available(),
            pools: parts.store.pool_loads(),
            pool_waits: pool_waits(),
            live_revocations: parts.revocations.len(),
            revocation_staleness: parts
                .revocations
                .last_read()
                .staleness(parts.clock.monotonic()),
            signing_key_age: since.map_or(Duration::ZERO, |since| now.since(since)),
            hashing: parts.passwords.load(),
            hashing_waits: parts.passwords.waits(),
            token_cache_misses: parts.verified.misses(),
            mails: parts.mails.clone(),
            dropped_refusals: self.dropped_refusals(),
        }
    }
}

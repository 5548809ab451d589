//! Makes new signing keys, on a thread for blocking work: an RSA key takes a good part of a second.

use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};
use zeroize::Zeroizing;

use super::{DerivedKeys, SigningKey, lifecycle::Successor, signing_key::SigningKeyError};
use crate::{clock::Timestamp, config::SigningAlgorithm, store::StoredSigningKey};

/// A key that is in no row yet.
pub(super) struct NewKey {
    key: SigningKey,
    pkcs8: Zeroizing<Vec<u8>>,
}

/// A key that is being made.
pub(super) struct KeyInProgress(JoinHandle<Result<NewKey, SigningKeyError>>);

impl KeyInProgress {
    pub(super) fn start(algorithm: SigningAlgorithm) -> Self {
        Self(tokio::task::spawn_blocking(move || {
            let (key, pkcs8) = SigningKey::generate(algorithm)?;
            Ok(NewKey { key, pkcs8 })
        }))
    }

    /// Waits for at most `patience`; `None` when the key is not made by then.
    pub(super) async fn wait(
        &mut self,
        patience: Duration,
    ) -> Option<Result<NewKey, SigningKeyError>> {
        let joined = tokio::time::timeout(patience, &mut self.0).await;
        joined.ok().map(made)
    }
}

impl NewKey {
    pub(super) async fn make(algorithm: SigningAlgorithm) -> Result<Self, SigningKeyError> {
        made(KeyInProgress::start(algorithm).0.await)
    }

    /// The row of the key, sealed by the first master key.
    pub(super) fn row(
        &self,
        keys: &DerivedKeys,
        place: Successor,
        now: Timestamp,
    ) -> StoredSigningKey {
        let master = keys.active();
        StoredSigningKey {
            kid: self.key.kid().to_owned(),
            ordinal: place.ordinal,
            algorithm: self.key.algorithm_name().to_owned(),
            sealed_private_key: master.seal(self.key.kid(), &self.pkcs8),
            sealed_by: master.version,
            created_at: now,
            activates_at: place.activates_at,
            revoked_at: None,
        }
    }
}

fn made(
    joined: Result<Result<NewKey, SigningKeyError>, JoinError>,
) -> Result<NewKey, SigningKeyError> {
    joined.unwrap_or_else(|error| Err(SigningKeyError::not_made(&error)))
}

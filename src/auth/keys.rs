//! The JWKS, and rotation of signing keys at an operator's request.

use std::{sync::Arc, time::Duration};

use super::{Auth, AuthError, RequestContext};
use crate::{
    store::AuditKind,
    tokens::{JwksDocument, KeyringError, SigningKeyInfo},
};

impl Auth {
    /// The public keys that verify access tokens (RFC 7517).
    pub fn jwks(&self) -> JwksDocument {
        self.parts.keyring.jwks(self.parts.clock.now())
    }

    /// How long a verifier may keep them.
    pub fn jwks_max_age(&self) -> Duration {
        self.parts.keyring.max_age()
    }

    /// Begins a rotation and returns the key that will sign: one that is published already, or a new
    /// one. In an emergency every existing key is revoked, and the new one signs at once.
    ///
    /// It runs in a task of its own: if the caller disconnects, this replica must still learn that keys were revoked.
    ///
    /// # Errors
    /// [`AuthError::DatabaseUnavailable`], [`AuthError::RateLimited`] when the JWKS has as many keys as it may have.
    pub async fn rotate_signing_key(
        &self,
        emergency: bool,
        context: &RequestContext,
    ) -> Result<SigningKeyInfo, AuthError> {
        let parts = Arc::clone(&self.parts);
        let now = parts.clock.now();
        let event = context.audit_event(AuditKind::SigningKeyRotated, now);
        let work = async move {
            let (keyring, store, keys) = (&parts.keyring, &parts.store, &parts.derived_keys);
            match emergency {
                true => keyring.rotate_in_emergency(store, keys, event, now).await,
                false => keyring.rotate(store, keys, event, now).await,
            }
        };
        match tokio::spawn(work).await {
            Ok(rotated) => Ok(rotated?),
            Err(panic) => Err(AuthError::Internal(panic.to_string())),
        }
    }
}

impl From<KeyringError> for AuthError {
    fn from(error: KeyringError) -> Self {
        match error {
            KeyringError::Store(error) => error.into(),
            KeyringError::TooManyKeys { retry_after } => Self::RateLimited { retry_after },
            KeyringError::Contended => Self::DatabaseUnavailable(error.to_string()),
            KeyringError::MasterKeyMissing { .. }
            | KeyringError::MasterKeyWrong { .. }
            | KeyringError::MasterKeyChanged(_)
            | KeyringError::Unusable(_) => Self::Internal(error.to_string()),
        }
    }
}

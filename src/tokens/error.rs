//! Why the keyring could not be loaded or changed.

use std::time::Duration;

use super::signing_key::SigningKeyError;
use crate::store::StoreError;

/// Why the keyring could not be loaded or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key is sealed by a master key that was not given.
    #[error(
        "signing key {kid} is sealed by master key v{version}, which is not in COUNTERSIGN_MASTER_KEYS"
    )]
    MasterKeyMissing {
        /// The key that cannot be opened.
        kid: String,
        /// The version that is missing.
        version: u8,
    },
    /// The master key of that version is not the one that sealed the key.
    #[error(
        "signing key {kid} cannot be opened: master key v{version} is not the one it was sealed with"
    )]
    MasterKeyWrong {
        /// The key that cannot be opened.
        kid: String,
        /// The version that was tried.
        version: u8,
    },
    /// A master key is not the one that this database has by that version.
    #[error("master key v{0} is not the one that was used as v{0} before")]
    MasterKeyChanged(u8),
    /// The key itself is damaged, or could not be made.
    #[error(transparent)]
    Unusable(#[from] SigningKeyError),
    /// Keys were rotated so often that those which still verify fill the JWKS.
    #[error("the JWKS has its maximum number of keys: try again once one has expired")]
    TooManyKeys {
        /// When the next one is gone.
        retry_after: Duration,
    },
    /// Other replicas kept taking the place of the key that was to be added.
    #[error("another replica rotates at the same time: try again")]
    Contended,
}

//! A change of master keys: secrets of authenticator apps are sealed by the new first one.

use super::TotpSecret;
use crate::{
    store::{Store, StoreError},
    tokens::{DerivedKeys, UnsealError},
};

/// How many secrets are read at once.
const BATCH: i64 = 100;

/// Why a secret could not be sealed again.
#[derive(Debug, thiserror::Error)]
pub enum RewrapError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The secret cannot be opened.
    #[error("factor {factor}, encrypted with master key v{version}: {cause}")]
    Sealed {
        /// The factor.
        factor: String,
        /// The version of the key that sealed it.
        version: u8,
        /// Why.
        cause: UnsealError,
    },
}

/// Seals the secrets that another master key sealed by the first one. Returns how many that were. Other processes may do
/// the same at the same time: the UPDATE demands the version that was read.
///
/// # Errors
/// The database fails, or a secret cannot be opened with the master keys given. Those before it are done.
pub async fn reseal_totp_secrets(store: &Store, keys: &DerivedKeys) -> Result<usize, RewrapError> {
    let active = keys.active().version;
    let (mut resealed, mut after) = (0, None);
    loop {
        let batch = store
            .totp_secrets_of_other_keys(active, after, BATCH)
            .await?;
        let Some(last) = batch.last() else {
            return Ok(resealed);
        };
        after = Some(last.id);
        for totp in &batch {
            let secret = TotpSecret::open(keys, totp.id, &totp.sealed_secret, totp.sealed_by);
            let secret = secret.map_err(|cause| RewrapError::Sealed {
                factor: totp.id.to_string(),
                version: totp.sealed_by,
                cause,
            })?;
            let (sealed, version) = secret.seal(keys, totp.id);
            let done = store.reseal_totp_secret(totp.id, totp.sealed_by, &sealed, version);
            resealed += usize::from(done.await?);
        }
    }
}

//! A change of master keys: checks that those given are the ones used before, and seals signing keys by a new first one.

use super::{DerivedKeys, KeyringError, stored_key::unseal};
use crate::store::{Store, StoredSigningKey};

/// Seals the keys of `rows` by the first master key, unless they are already. Returns how many that were.
///
/// Other replicas may do the same at the same time: the UPDATE demands the version that was read.
///
/// # Errors
/// The database fails, or a key cannot be opened with the master keys given.
pub async fn reseal<'a>(
    store: &Store,
    keys: &DerivedKeys,
    rows: impl IntoIterator<Item = &'a StoredSigningKey>,
) -> Result<usize, KeyringError> {
    let master = keys.active();
    let mut resealed = 0;
    for row in rows {
        if row.sealed_by == master.version || row.revoked_at.is_some() {
            continue;
        }
        let sealed = master.seal(&row.kid, &unseal(row, keys)?);
        let done = store.reseal_signing_key(&row.kid, row.sealed_by, &sealed, master.version);
        if done.await? {
            resealed += 1;
            tracing::info!(
                kid = row.kid,
                from = row.sealed_by,
                to = master.version,
                "signing key encrypted with the first master key"
            );
        }
    }
    Ok(resealed)
}

/// Compares the master keys with those that were used in this database under the same versions. One that
/// seals no signing key may still verify passwords and refresh tokens, and would refuse them.
///
/// # Errors
/// The database fails, or a version has another key than before.
pub async fn check_master_keys(store: &Store, keys: &DerivedKeys) -> Result<(), KeyringError> {
    for set in keys.all() {
        let known = store.master_key_fingerprint(set.version, &set.fingerprint);
        if known.await? != set.fingerprint {
            return Err(KeyringError::MasterKeyChanged(set.version));
        }
    }
    Ok(())
}

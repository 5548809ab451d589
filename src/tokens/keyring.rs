//! The keys this service signs with, shared by every replica through the database.
//!
//! Rotation finds its place here: a key is a row with an ordinal and an activation time, so which key
//! signs now and which ones still verify follows from the rows and the clock alone.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use zeroize::Zeroizing;

use super::{DerivedKeys, sealing::UnsealError, signing_key::SigningKeyError};
use crate::{
    clock::Timestamp,
    store::{Store, StoreError, StoredSigningKey},
    tokens::SigningKey,
};

/// Why the keyring could not be loaded.
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
    /// The key itself is damaged.
    #[error(transparent)]
    Damaged(#[from] SigningKeyError),
}

/// The keys known to this replica.
pub struct Keyring {
    keys: RwLock<Arc<Keys>>,
}

struct Keys {
    by_kid: HashMap<String, Arc<SigningKey>>,
    /// Oldest first.
    in_order: Vec<Arc<SigningKey>>,
}

impl Keyring {
    /// Loads the keys, creating the first one when there is none. Replicas that start together agree
    /// on one: the ordinal is unique, so only one insert succeeds and all of them read it back.
    ///
    /// # Errors
    /// The database fails, or a key cannot be opened with the master keys given.
    pub async fn load(
        store: &Store,
        keys: &DerivedKeys,
        now: Timestamp,
    ) -> Result<Self, KeyringError> {
        let mut stored = store.signing_keys().await?;
        if stored.is_empty() {
            store.insert_signing_key(&first_key(keys, now)?).await?;
            stored = store.signing_keys().await?;
        }
        let in_order = stored
            .iter()
            .map(|key| open(key, keys).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            keys: RwLock::new(Arc::new(Keys::new(in_order))),
        })
    }

    /// The key that signs at `now`: the newest one that has become active.
    pub fn signer(&self, now: Timestamp) -> Option<Arc<SigningKey>> {
        let keys = self.snapshot();
        let active = |key: &&Arc<SigningKey>| key.activates_at <= now;
        // A clock that stepped back must not leave the service without a key.
        let signer = keys.in_order.iter().rev().find(active);
        signer.or(keys.in_order.first()).cloned()
    }

    /// The key with that name.
    pub fn find(&self, kid: &str) -> Option<Arc<SigningKey>> {
        self.snapshot().by_kid.get(kid).cloned()
    }

    /// Stands in for branch `keys`.
    pub fn jwks(&self, _now: Timestamp) -> String {
        let keys = self.snapshot();
        let keys: Vec<_> = keys.in_order.iter().map(|key| key.jwk()).collect();
        serde_json::json!({ "keys": keys }).to_string()
    }

    fn snapshot(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Keys {
    fn new(in_order: Vec<Arc<SigningKey>>) -> Self {
        let by_kid = in_order
            .iter()
            .map(|key| (key.kid().to_owned(), Arc::clone(key)))
            .collect();
        Self { by_kid, in_order }
    }
}

fn first_key(keys: &DerivedKeys, now: Timestamp) -> Result<StoredSigningKey, SigningKeyError> {
    let pkcs8 = Zeroizing::new(SigningKey::generate_pkcs8().expose().clone());
    let key = SigningKey::from_pkcs8("EdDSA", &pkcs8, now)?;
    let master = keys.active();
    Ok(StoredSigningKey {
        sealed_private_key: master.seal(key.kid(), &pkcs8),
        sealed_by: master.version,
        kid: key.kid().to_owned(),
        ordinal: 1,
        algorithm: key.algorithm_name().to_owned(),
        created_at: now,
        activates_at: now,
        revoked_at: None,
    })
}

fn open(stored: &StoredSigningKey, keys: &DerivedKeys) -> Result<SigningKey, KeyringError> {
    let kid = || stored.kid.clone();
    let version = stored.sealed_by;
    let master = keys
        .of_version(version)
        .ok_or_else(|| KeyringError::MasterKeyMissing {
            kid: kid(),
            version,
        })?;
    let pkcs8 = master
        .open(&stored.kid, &stored.sealed_private_key)
        .map_err(|UnsealError| KeyringError::MasterKeyWrong {
            kid: kid(),
            version,
        })?;
    Ok(SigningKey::from_pkcs8(
        &stored.algorithm,
        &pkcs8,
        stored.activates_at,
    )?)
}

#[cfg(test)]
impl Keyring {
    /// A keyring with one fresh key, for tests that need no database.
    pub(crate) fn for_tests() -> Self {
        let pkcs8 = Zeroizing::new(SigningKey::generate_pkcs8().expose().clone());
        let key = SigningKey::from_pkcs8("EdDSA", &pkcs8, Timestamp::default()).unwrap();
        Self {
            keys: RwLock::new(Arc::new(Keys::new(vec![Arc::new(key)]))),
        }
    }
}

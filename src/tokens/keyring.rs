//! The keys this service signs with, shared by every replica through the database.
//!
//! A key is a row with an ordinal and an activation time; `lifecycle` says where it stands, `rotation`
//! makes new ones. Here is what this replica holds in memory, and how it is kept in step with the rows.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    DerivedKeys, JwksDocument,
    lifecycle::{self, KeyTimes, SigningPolicy, Standing},
    sealing::UnsealError,
    signing_key::SigningKeyError,
};
use crate::{
    clock::{Timestamp, monotonic_now},
    store::{Store, StoreError, StoredSigningKey},
    tokens::SigningKey,
};

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
    /// A master key is not the one that this database knows by that version.
    #[error("master key v{0} is not the one that was used as v{0} before")]
    MasterKeyChanged(u8),
    /// The key itself is damaged, or could not be made.
    #[error(transparent)]
    Unusable(#[from] SigningKeyError),
    /// Keys were rotated so often that those which still verify fill the JWKS.
    #[error("the JWKS has as many keys as verifiers can keep: try again when one is gone")]
    TooManyKeys {
        /// When the next one is gone.
        retry_after: Duration,
    },
    /// Other replicas kept taking the place of the key that was to be added.
    #[error("another replica rotates at the same time: try again")]
    Contended,
}

/// The keys known to this replica.
pub struct Keyring {
    pub(super) policy: SigningPolicy,
    snapshot: RwLock<Arc<Snapshot>>,
    /// Counts how often a key stopped verifying before its time.
    epoch: AtomicU64,
    /// One look at the database at a time: what an earlier look saw must not replace what a later one
    /// did, or a key that was revoked in between would live again.
    pub(super) turn: tokio::sync::Mutex<Turn>,
}

/// What only the holder of the turn may touch.
#[derive(Default)]
pub(super) struct Turn {
    /// The tag of the JWKS when it was last looked at.
    etag: String,
    /// The next key, while it is being made: for RSA that takes its time.
    pub(super) growing: Option<super::rotation::GrowingKey>,
}

/// The keys that are not revoked, oldest first, as of one reading of the rows.
pub(super) struct Snapshot {
    pub(super) times: Vec<KeyTimes>,
    /// `None` for a key that could not be opened: it counts, but is of no use here.
    pub(super) keys: Vec<Option<Arc<SigningKey>>>,
    verifies_until: Vec<Option<Timestamp>>,
    by_kid: HashMap<String, usize>,
    /// When the last reading began after which every key was known and open.
    complete_at: Option<Instant>,
}

impl Keyring {
    /// A keyring without keys.
    pub(super) fn empty(policy: SigningPolicy) -> Self {
        let snapshot = Snapshot {
            times: Vec::new(),
            keys: Vec::new(),
            verifies_until: Vec::new(),
            by_kid: HashMap::new(),
            complete_at: None,
        };
        Self {
            policy,
            snapshot: RwLock::new(Arc::new(snapshot)),
            epoch: AtomicU64::new(0),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// The key that signs at `now`. When this replica cannot open it, an older one that is still
    /// accepted everywhere; `None` when there is none. A revoked key is never among them.
    pub fn signer(&self, now: Timestamp) -> Option<Arc<SigningKey>> {
        let snapshot = self.snapshot();
        let active = lifecycle::active(&snapshot.times, now)?;
        let usable = |index: usize| match snapshot.is_accepted(index, now) {
            true => snapshot.keys[index].clone(),
            false => None,
        };
        (0..=active).rev().find_map(usable)
    }

    /// The key with that name, if tokens of it are accepted at `now`.
    pub fn find(&self, kid: &str, now: Timestamp) -> Option<Arc<SigningKey>> {
        let snapshot = self.snapshot();
        let index = *snapshot.by_kid.get(kid)?;
        match snapshot.is_accepted(index, now) {
            true => snapshot.keys[index].clone(),
            false => None,
        }
    }

    /// Rises whenever a key stops verifying before its time. Whoever remembers that a token was
    /// verified reads it *before* verifying, and forgets what was remembered under another epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The public keys that are accepted at `now`, the one that signs first.
    pub fn jwks(&self, now: Timestamp) -> JwksDocument {
        let snapshot = self.snapshot();
        let standing = |index| lifecycle::standing(&snapshot.times, index, &self.policy, now);
        let mut order: Vec<usize> = (0..snapshot.times.len())
            .filter(|&index| standing(index).verifies())
            .collect();
        order.sort_by_key(|&index| {
            let ordinal = snapshot.times[index].ordinal;
            match standing(index) {
                Standing::Active => (0, 0),
                Standing::Published => (1, ordinal),
                Standing::Retiring { .. } | Standing::Gone => (2, -ordinal),
            }
        });
        let keys: Vec<_> = order
            .into_iter()
            .filter_map(|index| snapshot.keys[index].clone())
            .collect();
        JwksDocument::of(&keys)
    }

    /// The newest key, if it could be opened.
    pub(super) fn newest(&self) -> Option<Arc<SigningKey>> {
        self.snapshot().keys.last().cloned().flatten()
    }

    /// How long verifiers may keep the JWKS. Shorter once the database has not been read for a while:
    /// a key that was published since must be fetched before it signs.
    pub fn max_age(&self) -> Duration {
        let left = self.policy.publish_ahead().saturating_sub(self.age());
        self.policy.jwks_max_age.min(left)
    }

    /// Whether keys may be signing by now that this replica has not heard of, because it could not
    /// read the database for longer than keys are published before they sign.
    pub fn may_lack_keys(&self) -> bool {
        self.age() >= self.policy.publish_ahead()
    }

    /// Reads the rows while the turn is held, installs them, and returns them.
    pub(super) async fn read(
        &self,
        store: &Store,
        keys: &DerivedKeys,
        now: Timestamp,
    ) -> Result<Vec<StoredSigningKey>, StoreError> {
        let began = monotonic_now();
        let rows = store.signing_keys().await?;
        if let Err(error) = self.install(&rows, keys, now, began) {
            tracing::error!(%error, "a signing key is of no use here");
        }
        Ok(rows)
    }

    /// Takes over what the rows say. The error is that of the first key that could not be opened; all
    /// others are in their places then.
    pub(super) fn install(
        &self,
        rows: &[StoredSigningKey],
        master_keys: &DerivedKeys,
        now: Timestamp,
        began: Instant,
    ) -> Result<(), KeyringError> {
        let before = self.snapshot();
        let live: Vec<&StoredSigningKey> =
            rows.iter().filter(|row| row.revoked_at.is_none()).collect();
        let times: Vec<KeyTimes> = live.iter().map(|row| KeyTimes::from(*row)).collect();
        let mut fault = None;
        let mut open_once = |index: usize| {
            let row = live[index];
            if let Some(key) = before.open_key(&row.kid) {
                return Some(key);
            }
            lifecycle::standing(&times, index, &self.policy, now)
                .verifies()
                .then(|| open(row, master_keys).map_err(|error| fault.get_or_insert(error)))?
                .ok()
                .map(Arc::new)
        };
        let keys = (0..live.len()).map(&mut open_once).collect();
        let until = |index| lifecycle::verifies_until(&times, index, &self.policy);
        let named = live.iter().enumerate();
        let after = Snapshot {
            keys,
            verifies_until: (0..live.len()).map(until).collect(),
            by_kid: named.map(|(index, row)| (row.kid.clone(), index)).collect(),
            complete_at: if fault.is_none() {
                Some(began)
            } else {
                before.complete_at
            },
            times,
        };
        self.replace(&before, after, now);
        fault.map_or(Ok(()), Err)
    }

    fn replace(&self, before: &Snapshot, after: Snapshot, now: Timestamp) {
        let lost = before
            .by_kid
            .iter()
            .any(|(kid, &index)| before.is_accepted(index, now) && !after.by_kid.contains_key(kid));
        *self
            .snapshot
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(after);
        // After the keys: who reads the new epoch must not find the old keys.
        if lost {
            self.epoch.fetch_add(1, Ordering::Release);
            tracing::warn!("signing keys were revoked: their tokens are no longer accepted");
        }
    }

    pub(super) fn notice_change(&self, turn: &mut Turn, now: Timestamp) -> bool {
        let etag = self.jwks(now).etag;
        let changed = turn.etag != etag;
        turn.etag = etag;
        changed
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn age(&self) -> Duration {
        let complete_at = self.snapshot().complete_at;
        complete_at.map_or(Duration::MAX, |then| {
            monotonic_now().saturating_duration_since(then)
        })
    }
}

impl Snapshot {
    fn is_accepted(&self, index: usize, now: Timestamp) -> bool {
        self.verifies_until[index].is_none_or(|until| now < until)
    }

    fn open_key(&self, kid: &str) -> Option<Arc<SigningKey>> {
        let index = *self.by_kid.get(kid)?;
        self.keys[index].clone()
    }
}

fn open(stored: &StoredSigningKey, keys: &DerivedKeys) -> Result<SigningKey, KeyringError> {
    let pkcs8 = unseal(stored, keys)?;
    Ok(SigningKey::from_pkcs8(&stored.algorithm, &pkcs8)?)
}

/// The private key of a row.
pub(super) fn unseal(
    stored: &StoredSigningKey,
    keys: &DerivedKeys,
) -> Result<zeroize::Zeroizing<Vec<u8>>, KeyringError> {
    let kid = || stored.kid.clone();
    let version = stored.sealed_by;
    let master = keys
        .of_version(version)
        .ok_or_else(|| KeyringError::MasterKeyMissing {
            kid: kid(),
            version,
        })?;
    master
        .open(&stored.kid, &stored.sealed_private_key)
        .map_err(|UnsealError| KeyringError::MasterKeyWrong {
            kid: kid(),
            version,
        })
}

#[cfg(test)]
#[path = "keyring_tests.rs"]
mod tests;

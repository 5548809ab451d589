//! The signing keys that this replica holds in memory, and how they follow the rows of the database.
//!
//! A key is a row with an ordinal and an activation time; `lifecycle` computes its state, `rotation` adds new ones.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    DerivedKeys, JwksDocument, KeyringError,
    lifecycle::{self, KeyState, KeyTimes, SigningPolicy},
    new_key::KeyInProgress,
    stored_key::open,
};
use crate::{
    clock::{Timestamp, monotonic_now},
    store::{Store, StoreError, StoredSigningKey},
    tokens::SigningKey,
};

/// The keys known to this replica.
pub struct Keyring {
    pub(super) policy: SigningPolicy,
    snapshot: RwLock<Arc<Snapshot>>,
    /// Counts how often a key stopped verifying before its time.
    epoch: AtomicU64,
    /// One read of the database at a time: an earlier read must not replace a later one, or a key that was revoked in
    /// between would be accepted again.
    pub(super) maintenance: tokio::sync::Mutex<Maintenance>,
}

/// What one read of the rows leaves to the next.
#[derive(Default)]
pub(super) struct Maintenance {
    /// The entity tag of the JWKS at the last read.
    etag: String,
    /// The next key, while it is being made.
    pub(super) next_key: Option<KeyInProgress>,
}

/// The keys that are not revoked, oldest first, as of one read of the rows.
pub(super) struct Snapshot {
    pub(super) times: Vec<KeyTimes>,
    /// `None` for a key that could not be opened, which counts but cannot be used here.
    pub(super) keys: Vec<Option<Arc<SigningKey>>>,
    verifies_until: Vec<Option<Timestamp>>,
    by_kid: HashMap<String, usize>,
    /// When the last read began after which every key was known and open.
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
            maintenance: tokio::sync::Mutex::default(),
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

    /// Whether there is a key of that name whose tokens are accepted at `now`, and this replica cannot open it: its master
    /// key was not given.
    pub(super) fn cannot_open(&self, kid: &str, now: Timestamp) -> bool {
        let snapshot = self.snapshot();
        let index = snapshot.by_kid.get(kid);
        index.is_some_and(|&index| {
            snapshot.keys[index].is_none() && snapshot.is_accepted(index, now)
        })
    }

    /// Rises whenever a key stops verifying before its time. A cache of verified tokens reads it *before* it verifies one,
    /// and ignores entries of another epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The public keys that are accepted at `now`, the one that signs first.
    pub fn jwks(&self, now: Timestamp) -> JwksDocument {
        let snapshot = self.snapshot();
        let state = |index| lifecycle::state(&snapshot.times, index, &self.policy, now);
        let mut order: Vec<usize> = (0..snapshot.times.len())
            .filter(|&index| state(index).verifies())
            .collect();
        order.sort_by_key(|&index| {
            let ordinal = snapshot.times[index].ordinal;
            match state(index) {
                KeyState::Active => (0, 0),
                KeyState::Published => (1, ordinal),
                KeyState::Retiring { .. } | KeyState::Gone => (2, -ordinal),
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

    /// Whether keys may sign by now that this replica does not know, because it could not
    /// read the database for longer than keys are published before they sign.
    pub fn may_lack_keys(&self) -> bool {
        self.age() >= self.policy.publish_ahead()
    }

    /// Reads the rows, installs them, and returns them. The caller holds the lock of `maintenance`.
    pub(super) async fn read(
        &self,
        store: &Store,
        keys: &DerivedKeys,
        now: Timestamp,
    ) -> Result<Vec<StoredSigningKey>, StoreError> {
        let began = monotonic_now();
        let rows = store.signing_keys().await?;
        if let Err(error) = self.install(&rows, keys, now, began) {
            tracing::error!(%error, "a signing key cannot be used");
        }
        Ok(rows)
    }

    /// Replaces the keys by those of the rows. The error is that of the first key that could not be opened; all
    /// others are installed then.
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
        master_keys.note_in_use(live.iter().map(|row| row.sealed_by));
        let mut fault = None;
        let mut open_once = |index: usize| {
            let row = live[index];
            if let Some(key) = before.open_key(&row.kid) {
                return Some(key);
            }
            lifecycle::state(&times, index, &self.policy, now)
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
        // After the keys: a reader of the new epoch must not find the old keys.
        if lost {
            self.epoch.fetch_add(1, Ordering::Release);
            tracing::warn!("signing keys were revoked: their tokens are no longer accepted");
        }
    }

    /// Whether the JWKS changed since the last call.
    pub(super) fn has_changed(&self, maintenance: &mut Maintenance, now: Timestamp) -> bool {
        let etag = self.jwks(now).etag;
        let changed = maintenance.etag != etag;
        maintenance.etag = etag;
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

#[cfg(test)]
#[path = "keyring_tests.rs"]
mod tests;

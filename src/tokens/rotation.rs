//! Adds and revokes signing keys: the first one, its successors, and the emergency rotation.
//!
//! There is no leader. Every replica reads the same rows, and the one that first inserts the next ordinal
//! has made the successor; the others find it there.

use std::time::Duration;

use super::{
    DerivedKeys, Keyring, KeyringError,
    keyring::Maintenance,
    lifecycle::{self, KeyState, KeyTimes, SigningPolicy, Successor},
    new_key::{KeyInProgress, NewKey},
    rewrap::{check_master_keys, reseal},
};
use crate::{
    clock::{Timestamp, monotonic_now},
    store::{AuditEvent, AuditKind, Store, StoredSigningKey},
};

/// How long maintenance waits for a key that is being made; RSA takes longer, and revocations have to be read
/// meanwhile.
const PATIENCE: Duration = Duration::from_millis(50);

/// How often the next ordinal is tried for before giving up.
const ATTEMPTS: usize = 10;

/// A signing key as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKeyInfo {
    /// RFC 7638 thumbprint.
    pub kid: String,
    /// JOSE name of the algorithm.
    pub algorithm: String,
    /// Its state.
    pub state: KeyState,
    /// When it was made, and with that published.
    pub created_at: Timestamp,
    /// From when it signs.
    pub activates_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// The version of the master key that seals it.
    pub sealed_by: u8,
}

impl Keyring {
    /// Opens the keys and changes none. To be called before a key is added: one sealed
    /// with a wrong master key could be used by no replica.
    ///
    /// # Errors
    /// The database fails, a key cannot be opened with the master keys given, or one of these is not what
    /// it was before.
    pub async fn open(
        store: &Store,
        keys: &DerivedKeys,
        policy: SigningPolicy,
        now: Timestamp,
    ) -> Result<(Self, Vec<StoredSigningKey>), KeyringError> {
        let ring = Self::empty(policy);
        let began = monotonic_now();
        let rows = store.signing_keys().await?;
        ring.install(&rows, keys, now, began)?;
        check_master_keys(store, keys).await?;
        Ok((ring, rows))
    }

    /// Loads the keys; makes the first one when there is none, and a successor when it is time or when
    /// the newest key is of another algorithm than new ones are to have. Keys that an older master key
    /// sealed are sealed by the first.
    ///
    /// The algorithm is compared at the start only: while a change is rolled out, replicas of both
    /// configurations would otherwise rotate in turns.
    ///
    /// # Errors
    /// The database fails, or a key cannot be opened with the master keys given.
    pub async fn load(
        store: &Store,
        keys: &DerivedKeys,
        policy: SigningPolicy,
        now: Timestamp,
    ) -> Result<Self, KeyringError> {
        let (ring, rows) = Self::open(store, keys, policy, now).await?;
        reseal(store, keys, in_use(&rows, &policy, now)).await?;
        let times = times(&rows);
        let shared_now = store.shared_now().await?;
        let successor = lifecycle::due_successor(&times, &policy, shared_now).or_else(|| {
            let newest = ring.newest()?;
            if newest.is_of(policy.algorithm) {
                return None;
            }
            let successor = lifecycle::successor_now(&times, &policy, shared_now);
            if successor.is_none() {
                tracing::warn!(
                    "the JWKS has no room for a key of another algorithm: restart once old keys are gone"
                );
            }
            successor
        });
        if let Some(successor) = successor {
            let key = NewKey::make(policy.algorithm).await?;
            ring.add(store, keys, &key, successor, shared_now).await?;
            let began = monotonic_now();
            ring.install(&store.signing_keys().await?, keys, now, began)?;
        }
        let mut maintenance = ring.maintenance.lock().await;
        ring.has_changed(&mut maintenance, now);
        drop(maintenance);
        Ok(ring)
    }

    /// Reads the rows again, then publishes a successor when it is time, and deletes keys that no token needs any longer.
    /// Every replica does this at each poll. Returns whether the JWKS changed since the last time, by a row or as time
    /// passes. A key that cannot be opened is logged, and the others are used.
    ///
    /// # Errors
    /// The rows cannot be read, and everything stays as it was.
    pub async fn read_and_rotate(
        &self,
        store: &Store,
        keys: &DerivedKeys,
        now: Timestamp,
    ) -> Result<bool, KeyringError> {
        let mut maintenance = self.maintenance.lock().await;
        let rows = self.read(store, keys, now).await?;
        // Keys are dated by the clock that all replicas share. A replica whose own is wrong would publish keys that sign in a
        // year, or delete those with which the others sign.
        let shared_now = store.shared_now().await?;
        match self
            .maintain(&mut maintenance, store, keys, &rows, shared_now)
            .await
        {
            Ok(false) => {}
            Ok(true) => drop(self.read(store, keys, now).await?),
            Err(error) => tracing::warn!(%error, "signing keys could not be rotated"),
        }
        Ok(self.has_changed(&mut maintenance, now))
    }

    /// Publishes a successor of the active key, unless one is published already. It signs once every
    /// replica and every verifier has had time to learn of it. Returns the successor.
    ///
    /// # Errors
    /// The database fails, no key can be made, or the JWKS has as many keys as it may have.
    pub async fn rotate(
        &self,
        store: &Store,
        keys: &DerivedKeys,
        event: AuditEvent,
        now: Timestamp,
    ) -> Result<SigningKeyInfo, KeyringError> {
        let event = AuditEvent {
            kind: AuditKind::SigningKeyRotated,
            ..event
        };
        // Before the lock is taken: others should not have to wait for an RSA key.
        let key = NewKey::make(self.policy.algorithm).await?;
        let _maintenance = self.maintenance.lock().await;
        for _ in 0..ATTEMPTS {
            let rows = self.read(store, keys, now).await?;
            let shared_now = store.shared_now().await?;
            let times = times(&rows);
            if let Some(pending) = lifecycle::pending(&times, &self.policy, shared_now) {
                return Ok(describe(&rows, &self.policy, shared_now).swap_remove(pending));
            }
            let successor =
                lifecycle::successor_now(&times, &self.policy, shared_now).ok_or_else(|| {
                    let room_at = lifecycle::next_room(&times, &self.policy, shared_now);
                    let retry_after = room_at.map(|at| at.since(shared_now));
                    KeyringError::TooManyKeys {
                        retry_after: retry_after.unwrap_or(self.policy.token_life),
                    }
                })?;
            let row = key.row(keys, successor, shared_now);
            store.insert_signing_key(&row, Some(&event)).await?;
            // Ours, or that of a replica that was first, is found by the next read.
        }
        Err(KeyringError::Contended)
    }

    /// Revokes every key at once and lets a new one sign. When this returns no token of the old keys
    /// is accepted here, and the other replicas have been notified.
    ///
    /// # Errors
    /// The database fails, or no key can be made; the old keys go on then.
    pub async fn rotate_in_emergency(
        &self,
        store: &Store,
        keys: &DerivedKeys,
        event: AuditEvent,
        now: Timestamp,
    ) -> Result<SigningKeyInfo, KeyringError> {
        let event = AuditEvent {
            kind: AuditKind::SigningKeysRevoked,
            ..event
        };
        let key = NewKey::make(self.policy.algorithm).await?;
        let _maintenance = self.maintenance.lock().await;
        for _ in 0..ATTEMPTS {
            let rows = store.signing_keys().await?;
            let shared_now = store.shared_now().await?;
            let at_once = Successor {
                ordinal: lifecycle::next_ordinal(&times(&rows)),
                activates_at: shared_now,
            };
            let row = key.row(keys, at_once, shared_now);
            if store.replace_signing_keys(&row, &event).await? {
                let rows = self.read(store, keys, now).await?;
                let known = describe(&rows, &self.policy, now);
                let ours = known.into_iter().find(|key| key.kid == row.kid);
                return ours.ok_or(KeyringError::Contended);
            }
        }
        Err(KeyringError::Contended)
    }

    async fn maintain(
        &self,
        maintenance: &mut Maintenance,
        store: &Store,
        keys: &DerivedKeys,
        rows: &[StoredSigningKey],
        now: Timestamp,
    ) -> Result<bool, KeyringError> {
        let times = times(rows);
        let unused: Vec<String> = (0..rows.len())
            .filter(|&index| lifecycle::is_deletable(&times, index, &self.policy, now))
            .map(|index| rows[index].kid.clone())
            .collect();
        if !unused.is_empty() {
            store.delete_signing_keys(&unused).await?;
            tracing::info!(kids = ?unused, "signing keys deleted");
        }
        let Some(successor) = lifecycle::due_successor(&times, &self.policy, now) else {
            maintenance.next_key = None;
            return Ok(!unused.is_empty());
        };
        let next_key = maintenance
            .next_key
            .get_or_insert_with(|| KeyInProgress::start(self.policy.algorithm));
        let Some(made) = next_key.wait(PATIENCE).await else {
            return Ok(!unused.is_empty());
        };
        maintenance.next_key = None;
        self.add(store, keys, &made?, successor, now).await?;
        Ok(true)
    }

    async fn add(
        &self,
        store: &Store,
        keys: &DerivedKeys,
        key: &NewKey,
        successor: Successor,
        now: Timestamp,
    ) -> Result<(), KeyringError> {
        let row = key.row(keys, successor, now);
        if store.insert_signing_key(&row, None).await? {
            let Successor {
                ordinal,
                activates_at,
            } = successor;
            let signs_from = activates_at.seconds();
            tracing::info!(kid = row.kid, ordinal, signs_from, "signing key published");
        }
        Ok(())
    }
}

/// The keys of the rows with their states at `now`, oldest first.
pub fn describe(
    rows: &[StoredSigningKey],
    policy: &SigningPolicy,
    now: Timestamp,
) -> Vec<SigningKeyInfo> {
    let times = times(rows);
    let info = |(index, row): (usize, &StoredSigningKey)| SigningKeyInfo {
        kid: row.kid.clone(),
        algorithm: row.algorithm.clone(),
        state: lifecycle::state(&times, index, policy, now),
        created_at: row.created_at,
        activates_at: row.activates_at,
        revoked_at: row.revoked_at,
        sealed_by: row.sealed_by,
    };
    rows.iter().enumerate().map(info).collect()
}

fn times(rows: &[StoredSigningKey]) -> Vec<KeyTimes> {
    rows.iter().map(KeyTimes::from).collect()
}

fn in_use<'a>(
    rows: &'a [StoredSigningKey],
    policy: &SigningPolicy,
    now: Timestamp,
) -> impl Iterator<Item = &'a StoredSigningKey> {
    let verify = describe(rows, policy, now)
        .into_iter()
        .map(|key| key.state.verifies());
    rows.iter()
        .zip(verify)
        .filter_map(|(row, verifies)| verifies.then_some(row))
}

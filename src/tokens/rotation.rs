//! How signing keys come and go: the first one, its successors, and the emergency that ends them all.
//!
//! There is no leader. Every replica looks at the same rows, and whoever first takes the next ordinal
//! has made the successor; the others find it there.

use std::time::Duration;

use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use super::{
    DerivedKeys, Keyring, KeyringError, SigningKey,
    keyring::Turn,
    lifecycle::{self, KeyTimes, SigningPolicy, Standing, Successor},
    rewrap::{check_master_keys, reseal},
    signing_key::SigningKeyError,
};
use crate::{
    clock::{Timestamp, monotonic_now},
    config::SigningAlgorithm,
    store::{AuditEvent, AuditKind, Store, StoredSigningKey},
};

/// How long a round waits for a key that is being made; RSA takes longer, and the round has
/// revocations to read.
const PATIENCE: Duration = Duration::from_millis(50);

/// How often the next ordinal is tried for before giving up.
const ATTEMPTS: usize = 10;

/// A key that is being made on a thread of its own.
pub(super) struct GrowingKey(JoinHandle<Result<FreshKey, SigningKeyError>>);

/// A key that is in no row yet.
struct FreshKey {
    key: SigningKey,
    pkcs8: Zeroizing<Vec<u8>>,
}

/// A signing key as its keepers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKeyInfo {
    /// RFC 7638 thumbprint.
    pub kid: String,
    /// JOSE name of the algorithm.
    pub algorithm: String,
    /// Where it stands.
    pub standing: Standing,
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
    /// Opens the keys and changes none. Whoever is going to add a key does this first: one sealed
    /// with a wrong master key would be of no use to anybody.
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
    /// The algorithm is compared at the start only: while a change is rolled out, replicas of either
    /// mind would otherwise rotate in turns.
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
        let successor = lifecycle::due_successor(&times, &policy, now).or_else(|| {
            let newest = ring.newest()?;
            if newest.is_of(policy.algorithm) {
                return None;
            }
            let successor = lifecycle::successor_now(&times, &policy, now);
            if successor.is_none() {
                tracing::warn!(
                    "the JWKS has no room for a key of another algorithm: start again once old keys are gone"
                );
            }
            successor
        });
        if let Some(successor) = successor {
            let fresh = FreshKey::make(policy.algorithm).await?;
            ring.add(store, keys, &fresh, successor, now).await?;
            let began = monotonic_now();
            ring.install(&store.signing_keys().await?, keys, now, began)?;
        }
        let mut turn = ring.turn.lock().await;
        ring.notice_change(&mut turn, now);
        drop(turn);
        Ok(ring)
    }

    /// What every replica does each time it looks at the database: read the rows again, then
    /// publish a successor when it is time, and delete keys that have outlived their use. Says whether the
    /// JWKS changed since the last time, be it by a row or by the passing of time. A key that cannot be
    /// opened is logged, and the others go on.
    ///
    /// # Errors
    /// The rows cannot be read, and everything stays as it was.
    pub async fn keep_up(
        &self,
        store: &Store,
        keys: &DerivedKeys,
        now: Timestamp,
    ) -> Result<bool, KeyringError> {
        let mut turn = self.turn.lock().await;
        let rows = self.read(store, keys, now).await?;
        match self.maintain(&mut turn, store, keys, &rows, now).await {
            Ok(false) => {}
            Ok(true) => drop(self.read(store, keys, now).await?),
            Err(error) => tracing::warn!(%error, "signing keys could not be rotated"),
        }
        Ok(self.notice_change(&mut turn, now))
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
        // Before the turn is taken: nobody should have to wait for an RSA key.
        let fresh = FreshKey::make(self.policy.algorithm).await?;
        let _turn = self.turn.lock().await;
        for _ in 0..ATTEMPTS {
            let rows = self.read(store, keys, now).await?;
            let known = describe(&rows, &self.policy, now);
            let pending = |key: &SigningKeyInfo| key.standing == Standing::Published;
            if let Some(pending) = known.into_iter().rev().find(pending) {
                return Ok(pending);
            }
            let times = times(&rows);
            let successor =
                lifecycle::successor_now(&times, &self.policy, now).ok_or_else(|| {
                    let room_at = lifecycle::next_room(&times, &self.policy, now);
                    KeyringError::TooManyKeys {
                        retry_after: room_at.map_or(self.policy.token_life, |at| at.since(now)),
                    }
                })?;
            let row = fresh.row(keys, successor, now);
            store.insert_signing_key(&row, Some(&event)).await?;
            // Ours, or that of a replica that was first, is found in the next round.
        }
        Err(KeyringError::Contended)
    }

    /// Revokes every key at once and lets a fresh one sign. When this returns no token of the old keys
    /// is accepted here, and the other replicas have been told.
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
        let fresh = FreshKey::make(self.policy.algorithm).await?;
        let _turn = self.turn.lock().await;
        for _ in 0..ATTEMPTS {
            let rows = store.signing_keys().await?;
            let at_once = Successor {
                ordinal: lifecycle::next_ordinal(&times(&rows)),
                activates_at: now,
            };
            let row = fresh.row(keys, at_once, now);
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
        turn: &mut Turn,
        store: &Store,
        keys: &DerivedKeys,
        rows: &[StoredSigningKey],
        now: Timestamp,
    ) -> Result<bool, KeyringError> {
        let times = times(rows);
        let outlived: Vec<String> = (0..rows.len())
            .filter(|&index| lifecycle::is_deletable(&times, index, &self.policy, now))
            .map(|index| rows[index].kid.clone())
            .collect();
        if !outlived.is_empty() {
            store.delete_signing_keys(&outlived).await?;
            tracing::info!(kids = ?outlived, "signing keys deleted");
        }
        let Some(successor) = lifecycle::due_successor(&times, &self.policy, now) else {
            turn.growing = None;
            return Ok(!outlived.is_empty());
        };
        match turn.grow(self.policy.algorithm).await? {
            Some(fresh) => {
                self.add(store, keys, &fresh, successor, now).await?;
                Ok(true)
            }
            None => Ok(!outlived.is_empty()),
        }
    }

    async fn add(
        &self,
        store: &Store,
        keys: &DerivedKeys,
        fresh: &FreshKey,
        successor: Successor,
        now: Timestamp,
    ) -> Result<(), KeyringError> {
        let row = fresh.row(keys, successor, now);
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

impl Turn {
    /// The next key, once it is made; `None` while it is not.
    async fn grow(
        &mut self,
        algorithm: SigningAlgorithm,
    ) -> Result<Option<FreshKey>, KeyringError> {
        let growing = self
            .growing
            .get_or_insert_with(|| GrowingKey(FreshKey::begin(algorithm)));
        match tokio::time::timeout(PATIENCE, &mut growing.0).await {
            Err(_) => Ok(None),
            Ok(made) => {
                self.growing = None;
                Ok(Some(FreshKey::made(made)?))
            }
        }
    }
}

impl FreshKey {
    fn begin(algorithm: SigningAlgorithm) -> JoinHandle<Result<Self, SigningKeyError>> {
        tokio::task::spawn_blocking(move || {
            let (key, pkcs8) = SigningKey::generate(algorithm)?;
            Ok(Self { key, pkcs8 })
        })
    }

    async fn make(algorithm: SigningAlgorithm) -> Result<Self, SigningKeyError> {
        Self::made(Self::begin(algorithm).await)
    }

    fn made(
        joined: Result<Result<Self, SigningKeyError>, tokio::task::JoinError>,
    ) -> Result<Self, SigningKeyError> {
        joined.unwrap_or_else(|error| Err(SigningKeyError::not_made(&error)))
    }

    fn row(&self, keys: &DerivedKeys, place: Successor, now: Timestamp) -> StoredSigningKey {
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

/// What the rows say at `now`, oldest key first.
pub fn describe(
    rows: &[StoredSigningKey],
    policy: &SigningPolicy,
    now: Timestamp,
) -> Vec<SigningKeyInfo> {
    let times = times(rows);
    let info = |(index, row): (usize, &StoredSigningKey)| SigningKeyInfo {
        kid: row.kid.clone(),
        algorithm: row.algorithm.clone(),
        standing: lifecycle::standing(&times, index, policy, now),
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
        .map(|key| key.standing.verifies());
    rows.iter()
        .zip(verify)
        .filter_map(|(row, verifies)| verifies.then_some(row))
}

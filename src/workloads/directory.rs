//! The directory of service accounts and keys, in memory, so that tokens are issued without the database.
//!
//! It is synchronised like revocations: the sync reads it at every notification and poll. Reading costs one statement
//! while nothing changes, and then only what is new.
//!
//! A replica without database access keeps issuing tokens from its last known state, for at most
//! [`DIRECTORY_MAX_AGE`]. If a service account is disabled meanwhile, other replicas must refuse these tokens. Therefore each
//! lookup returns the time up to which all changes are known, and a token is dated back to that time (the time in `jti`,
//! which revocations of an account compare): an unknown revocation is later, so it covers the token.

use std::{
    sync::{
        PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::Mutex, time::sleep};

use super::entries::{AccountLookup, Entries, KeyState, KnownAccount};
use crate::{
    clock::{Clock, Timestamp, monotonic_now},
    domain::{ServiceAccount, ServiceAccountId, ServiceAccountName, ServiceKey, ServiceKeyId},
    store::{DirectoryVersion, Store, StoreError, Versioned},
};

/// For so long tokens are issued by what was read last. Revocations of service accounts and keys are remembered for
/// longer than that.
pub const DIRECTORY_MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// A change carries the time at which its transaction began, by the clock of the replica that made it. It may be
/// committed so much later, or that clock be ahead, without a reader being taken to know it.
const COMMIT_DELAY: Duration = Duration::from_secs(5);

/// Between two reads for keys that are not known.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// Service accounts and their keys. Lookups take a lock for a moment and never wait for I/O.
#[derive(Default)]
pub struct Directory {
    state: RwLock<State>,
    progress: Mutex<Progress>,
    /// How many reads have begun.
    reads: AtomicU64,
}

#[derive(Default)]
struct State {
    entries: Entries,
    /// When the last complete read began, by both clocks; `None` before the first.
    read_at: Option<(Timestamp, Duration)>,
}

/// What only readers of the database need.
#[derive(Default)]
struct Progress {
    /// The version that is known here; `None`: read everything.
    version: Option<DirectoryVersion>,
    /// When the last read for an unknown key began.
    asked_at: Option<Instant>,
    /// Why the last read failed.
    failure: Option<String>,
}

impl Directory {
    /// What is known about a key, and when a token may be issued for it, its account.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the directory was never read, or last too long ago.
    pub fn key(&self, id: ServiceKeyId, clock: &Clock) -> Result<AccountLookup, StoreError> {
        let now = clock.now();
        let state = self.read();
        let known_at = state.known_at(now, clock.monotonic())?;
        Ok(match state.entries.key(id, now) {
            KeyState::Unknown => AccountLookup::Unknown,
            KeyState::Refused => AccountLookup::Refused,
            KeyState::Live(account) => AccountLookup::Live(KnownAccount { account, known_at }),
        })
    }

    /// What is known about the service account with that name.
    ///
    /// # Errors
    /// As [`key`](Self::key).
    pub fn account_named(
        &self,
        name: &ServiceAccountName,
        clock: &Clock,
    ) -> Result<AccountLookup, StoreError> {
        let state = self.read();
        let known_at = state.known_at(clock.now(), clock.monotonic())?;
        Ok(match state.entries.account_named(name) {
            None => AccountLookup::Unknown,
            Some(account) if account.disabled_at.is_some() => AccountLookup::Refused,
            Some(account) => AccountLookup::Live(KnownAccount { account, known_at }),
        })
    }

    /// The enabled service account with that id.
    ///
    /// # Errors
    /// As [`key`](Self::key).
    pub fn account(
        &self,
        id: ServiceAccountId,
        clock: &Clock,
    ) -> Result<Option<KnownAccount>, StoreError> {
        let state = self.read();
        let known_at = state.known_at(clock.now(), clock.monotonic())?;
        let account = state.entries.account(id);
        let enabled = account.filter(|account| account.disabled_at.is_none());
        Ok(enabled.map(|account| KnownAccount { account, known_at }))
    }

    /// Reads what has changed.
    ///
    /// # Errors
    /// The database fails; the directory keeps what it has.
    pub async fn refresh(&self, store: &Store, clock: &Clock) -> Result<(), StoreError> {
        let mut progress = self.progress.lock().await;
        self.read_changes(&mut progress, store, clock).await
    }

    /// Reads what has changed, for a key or name that is not known here. Callers that come at once share one read, and reads
    /// keep a distance from each other.
    ///
    /// # Errors
    /// The database fails.
    pub async fn read_again(&self, store: &Store, clock: &Clock) -> Result<(), StoreError> {
        let begun = self.reads.load(Ordering::Acquire);
        let mut progress = self.progress.lock().await;
        if self.reads.load(Ordering::Acquire) > begun {
            // One began after this call, and has ended.
            return match &progress.failure {
                None => Ok(()),
                Some(cause) => Err(StoreError::Unavailable(cause.clone())),
            };
        }
        if let Some(asked_at) = progress.asked_at {
            let since = monotonic_now().saturating_duration_since(asked_at);
            sleep(SHORTEST_INTERVAL.saturating_sub(since)).await;
        }
        progress.asked_at = Some(monotonic_now());
        self.read_changes(&mut progress, store, clock).await
    }

    /// Has the next read take everything: the database has another history.
    pub async fn read_everything_next(&self) {
        self.progress.lock().await.version = None;
    }

    async fn read_changes(
        &self,
        progress: &mut Progress,
        store: &Store,
        clock: &Clock,
    ) -> Result<(), StoreError> {
        self.reads.fetch_add(1, Ordering::Release);
        // Kept for whoever waits when this call is dropped in the middle.
        progress.failure = Some("the read was cut off".to_owned());
        let read = self.try_read_changes(progress, store, clock).await;
        progress.failure = read.as_ref().err().map(ToString::to_string);
        read
    }

    async fn try_read_changes(
        &self,
        progress: &mut Progress,
        store: &Store,
        clock: &Clock,
    ) -> Result<(), StoreError> {
        let began = (clock.now(), clock.monotonic());
        self.write().entries.begin_read();
        let state = store.directory_version().await?;
        if progress.version != Some(state) {
            let known = progress
                .version
                .filter(|known| known.newest < state.newest && known.deleted == state.deleted);
            let since = known.map_or(i64::MIN, |known| known.newest);
            let changed = changed_since(store, since, began.0).await?;
            let is_restored = match progress.version {
                None => true,
                Some(known) => known.newest > state.newest,
            };
            let entries = &mut self.write().entries;
            match known {
                None => entries.replace(changed, state.newest, is_restored),
                Some(_) => entries.learn(changed, state.newest),
            }
            progress.version = Some(state);
        }
        self.write().read_at = Some(began);
        Ok(())
    }

    /// Takes over a service account that this replica has just changed.
    pub fn learn_account(&self, account: Versioned<ServiceAccount>) {
        self.write().entries.learn_account(account);
    }

    /// Takes over a key that this replica has just changed.
    pub fn learn_key(&self, key: Versioned<ServiceKey>) {
        self.write().entries.learn_key(key);
    }

    /// Forgets a service account that this replica has just deleted.
    pub fn forget_account(&self, id: ServiceAccountId) {
        self.write().entries.forget_account(id);
    }

    /// Notes that a key is used now.
    pub fn note_use(&self, id: ServiceKeyId, now: Timestamp) {
        self.read().entries.note_use(id, now);
    }

    /// When a key was last used, as far as this replica knows.
    pub fn last_use(&self, id: ServiceKeyId) -> Option<Timestamp> {
        self.read().entries.last_use(id)
    }

    /// Writes down when keys were last used, and forgets keys that have been expired for long.
    ///
    /// # Errors
    /// The database fails: what was not written is tried again the next time.
    pub async fn record_uses(&self, store: &Store, now: Timestamp) -> Result<(), StoreError> {
        self.write().entries.forget_expired(now);
        let uses = self.read().entries.unrecorded_uses();
        if uses.is_empty() {
            return Ok(());
        }
        store.record_key_uses(&uses).await?;
        self.read().entries.mark_recorded(&uses);
        Ok(())
    }

    /// How many service accounts are known.
    pub fn len(&self) -> usize {
        self.read().entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Up to when all changes are known.
    fn known_at(&self, now: Timestamp, monotonic: Duration) -> Result<Timestamp, StoreError> {
        let stale = || StoreError::Unavailable("service accounts have not been read".to_owned());
        let (began, monotonic_began) = self.read_at.ok_or_else(stale)?;
        if monotonic.saturating_sub(monotonic_began) > DIRECTORY_MAX_AGE {
            return Err(stale());
        }
        // The clock may have been set back since.
        Ok(began.min(now) - COMMIT_DELAY)
    }
}

/// The accounts and keys that changed after a version. Read in pages, so that a large directory needs no memory besides its
/// own.
async fn changed_since(store: &Store, version: i64, now: Timestamp) -> Result<Entries, StoreError> {
    let mut changed = Entries::default();
    let mut after = String::new();
    loop {
        let page = store.service_accounts_since(version, &after).await?;
        let Some(last) = page.last() else { break };
        after = last.item.id.to_string();
        for account in page {
            changed.learn_account(account);
        }
    }
    after.clear();
    loop {
        let page = store.service_keys_since(version, now, &after).await?;
        let Some(last) = page.last() else {
            return Ok(changed);
        };
        after = last.item.id.to_string();
        for key in page {
            changed.learn_key(key);
        }
    }
}

//! The accounts and keys in memory, without the lock and the reading: pure rules of what replaces what.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use crate::{
    clock::Timestamp,
    domain::{ServiceAccount, ServiceAccountId, ServiceAccountName, ServiceKey, ServiceKeyId},
    store::Versioned,
};

/// The last use of a key is known to the minute.
const MINUTE: i64 = 60 * 1_000_000;

/// How long an expired key is remembered, so that it is refused without a look at the database.
const EXPIRED: Duration = Duration::from_secs(7 * 24 * 3600);

/// What is known about the account of a key, or about one with a name.
#[derive(Clone, Debug)]
pub enum AccountLookup {
    /// The account is enabled, and the key is live.
    Live(KnownAccount),
    /// The key is revoked or expired, or the account is disabled.
    Refused,
    /// There is no such key or name here.
    Unknown,
}

/// An enabled service account.
#[derive(Clone, Debug)]
pub struct KnownAccount {
    /// The account.
    pub account: Arc<ServiceAccount>,
    /// Every change is known that was committed before this moment. Tokens that are issued by this knowledge are dated
    /// back to it: see [`Directory`](super::Directory).
    pub known_at: Timestamp,
}

/// The same without a time.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum KeyState {
    Live(Arc<ServiceAccount>),
    Refused,
    Unknown,
}

#[derive(Default)]
pub(super) struct Entries {
    accounts: HashMap<ServiceAccountId, AccountEntry>,
    names: HashMap<ServiceAccountName, ServiceAccountId>,
    keys: HashMap<ServiceKeyId, KeyEntry>,
    /// The version of the last complete read.
    newest: Option<i64>,
    /// The accounts that this replica has deleted since the last read of the database began: that read may still have
    /// found them. Deleted rows have no version that would tell.
    deleted: Vec<ServiceAccountId>,
}

struct AccountEntry {
    account: Arc<ServiceAccount>,
    version: i64,
}

struct KeyEntry {
    account_id: ServiceAccountId,
    expires_at: Timestamp,
    is_revoked: bool,
    version: i64,
    /// Microseconds, to the minute; 0 for never.
    last_use: AtomicI64,
    /// The last use that is in the database.
    recorded_use: AtomicI64,
}

impl Entries {
    /// What is known about a key at `now`.
    pub(super) fn key(&self, id: ServiceKeyId, now: Timestamp) -> KeyState {
        let Some(key) = self.keys.get(&id) else {
            return KeyState::Unknown;
        };
        // A key of an account that is not known was read in the middle of a change.
        let Some(AccountEntry { account, .. }) = self.accounts.get(&key.account_id) else {
            return KeyState::Unknown;
        };
        match !key.is_revoked && now < key.expires_at && account.disabled_at.is_none() {
            true => KeyState::Live(Arc::clone(account)),
            false => KeyState::Refused,
        }
    }

    pub(super) fn account(&self, id: ServiceAccountId) -> Option<Arc<ServiceAccount>> {
        let entry = self.accounts.get(&id)?;
        Some(Arc::clone(&entry.account))
    }

    pub(super) fn account_named(&self, name: &ServiceAccountName) -> Option<Arc<ServiceAccount>> {
        self.account(*self.names.get(name)?)
    }

    /// Adds or replaces an account, unless a newer version is known, or it was deleted since.
    pub(super) fn learn_account(&mut self, learned: Versioned<ServiceAccount>) {
        let Versioned { item, version } = learned;
        // A read up to that version did not find it.
        let was_read = self.newest.is_some_and(|newest| version <= newest);
        if was_read && !self.accounts.contains_key(&item.id) {
            return;
        }
        let account = Arc::new(item);
        self.take_account(AccountEntry { account, version });
    }

    fn take_account(&mut self, entry: AccountEntry) {
        let id = entry.account.id;
        let known = self.accounts.get(&id);
        if known.is_some_and(|known| known.version > entry.version) {
            return;
        }
        self.names.insert(entry.account.name.clone(), id);
        self.accounts.insert(id, entry);
    }

    /// Adds or replaces a key, unless a newer version is known.
    pub(super) fn learn_key(&mut self, learned: Versioned<ServiceKey>) {
        let Versioned { item, version } = learned;
        let recorded = item.last_used_at.map_or(0, Timestamp::micros);
        let entry = KeyEntry {
            account_id: item.account_id,
            expires_at: item.expires_at,
            is_revoked: item.revoked_at.is_some(),
            version,
            last_use: AtomicI64::new(recorded),
            recorded_use: AtomicI64::new(recorded),
        };
        self.take_key(item.id, entry);
    }

    fn take_key(&mut self, id: ServiceKeyId, entry: KeyEntry) {
        if let Some(known) = self.keys.get(&id) {
            if known.version > entry.version {
                return;
            }
            let used = known.last_use.load(Ordering::Relaxed);
            entry.last_use.fetch_max(used, Ordering::Relaxed);
        }
        self.keys.insert(id, entry);
    }

    /// Removes an account that was just deleted, and its keys.
    pub(super) fn forget_account(&mut self, id: ServiceAccountId) {
        self.deleted.push(id);
        self.remove_account(id);
    }

    fn remove_account(&mut self, id: ServiceAccountId) {
        if let Some(entry) = self.accounts.remove(&id)
            && self.names.get(&entry.account.name) == Some(&id)
        {
            self.names.remove(&entry.account.name);
        }
        self.keys.retain(|_, key| key.account_id != id);
    }

    /// Notes that a read of the database begins. [`learn`](Self::learn) or [`replace`](Self::replace) ends it.
    pub(super) fn begin_read(&mut self) {
        self.deleted.clear();
    }

    /// What was deleted while this was read is not in the database any more.
    fn without(mut self, deleted: &[ServiceAccountId]) -> Self {
        for id in deleted {
            self.remove_account(*id);
        }
        self
    }

    /// Takes over what has changed up to version `newest`.
    pub(super) fn learn(&mut self, changed: Self, newest: i64) {
        let changed = changed.without(&self.deleted);
        self.newest = Some(newest);
        for entry in changed.accounts.into_values() {
            self.take_account(entry);
        }
        for (id, entry) in changed.keys {
            self.take_key(id, entry);
        }
    }

    /// Takes over all that is in the database at version `newest`, and forgets what is not, unless it is newer.
    pub(super) fn replace(&mut self, all: Self, newest: i64, is_restored: bool) {
        // In a restored database, versions say nothing about what is known here.
        let is_newer = |version: i64| !is_restored && version > newest;
        let old = std::mem::take(self);
        let mut all = all.without(&old.deleted);
        for entry in old.accounts.into_values() {
            if is_newer(entry.version) {
                all.take_account(entry);
            }
        }
        for (id, entry) in old.keys {
            if is_newer(entry.version) {
                all.take_key(id, entry);
            } else if let Some(key) = all.keys.get(&id) {
                let used = entry.last_use.into_inner();
                key.last_use.fetch_max(used, Ordering::Relaxed);
            }
        }
        all.newest = Some(newest);
        *self = all;
    }

    /// Notes that a key is used now.
    pub(super) fn note_use(&self, id: ServiceKeyId, now: Timestamp) {
        if let Some(key) = self.keys.get(&id) {
            let minute = now.micros() - now.micros().rem_euclid(MINUTE);
            key.last_use.fetch_max(minute, Ordering::Relaxed);
        }
    }

    /// The uses that are not in the database yet.
    pub(super) fn unrecorded_uses(&self) -> Vec<(ServiceKeyId, Timestamp)> {
        let uses = self.keys.iter().filter_map(|(id, key)| {
            let used = key.last_use.load(Ordering::Relaxed);
            let is_new = used > key.recorded_use.load(Ordering::Relaxed);
            is_new.then(|| (*id, Timestamp::from_micros(used)))
        });
        uses.collect()
    }

    /// Notes that these uses are in the database.
    pub(super) fn mark_recorded(&self, uses: &[(ServiceKeyId, Timestamp)]) {
        for (id, at) in uses {
            if let Some(key) = self.keys.get(id) {
                key.recorded_use.fetch_max(at.micros(), Ordering::Relaxed);
            }
        }
    }

    /// When a key was last used, as far as this replica knows.
    pub(super) fn last_use(&self, id: ServiceKeyId) -> Option<Timestamp> {
        let used = self.keys.get(&id)?.last_use.load(Ordering::Relaxed);
        (used > 0).then(|| Timestamp::from_micros(used))
    }

    /// Drops keys that have been expired for long.
    pub(super) fn forget_expired(&mut self, now: Timestamp) {
        self.keys.retain(|_, key| key.expires_at + EXPIRED > now);
    }

    pub(super) fn len(&self) -> usize {
        self.accounts.len()
    }
}

#[cfg(test)]
#[path = "entries_tests.rs"]
mod tests;

//! One write to a user or a session at a time, queued in memory.
//!
//! Writes to one row wait for each other. Left to the database, each of them would hold a pooled connection while it
//! waits, and a caller with many streams would hold all of them. Here they wait without one, few at a time: whoever
//! finds the queue full is answered `RATE_LIMITED`. Each replica has locks of its own, so that a row has at most one
//! write from each.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard},
    time::{sleep, timeout},
};

use super::AuthError;
use crate::{
    clock::monotonic_now,
    domain::{SessionId, UserId},
};

/// How long a refusal is held back, so that a caller that calls again at once does not use up the processor.
const REFUSAL_DELAY: Duration = Duration::from_millis(100);

/// How long a refused caller should wait before it retries.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Who wants to write: it decides how many may be in the queue already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    /// The user, with an access or refresh token.
    User,
    /// A client that refreshes. Many may do so at once with one token: each of them gets the same successor.
    Refresh,
    /// A login that has passed the password check. How many there are is bounded by the hashing queue.
    Login,
    /// An administrator, whom no number of calls by the user may shut out; or the service, on finding a stolen token.
    Service,
}

impl Writer {
    /// How many may hold or wait for the lock before this one.
    const fn queue(self) -> usize {
        match self {
            Self::User => 8,
            Self::Login | Self::Refresh => 256,
            Self::Service => 512,
        }
    }

    /// How long it waits at most.
    const fn longest_wait(self) -> Duration {
        match self {
            // With the write itself, the answer comes within two seconds.
            Self::User | Self::Refresh => Duration::from_secs(1),
            // The hash has been computed; it would be a waste to throw it away.
            Self::Login | Self::Service => Duration::from_secs(5),
        }
    }
}

/// The locks of this replica. Clones share them.
#[derive(Clone, Default)]
pub(super) struct WriteLocks {
    /// Held by every change of a user, and by what ends several sessions.
    pub(super) users: KeyedLocks<UserId>,
    /// Held by what ends one session.
    pub(super) sessions: KeyedLocks<SessionId>,
    /// Held by a refresh while it rotates the session: logouts do not queue behind it.
    pub(super) refreshes: KeyedLocks<SessionId>,
    /// Held while a change of password is under way, hashing included: one user has one place in the hashing queue.
    pub(super) password_changes: KeyedLocks<UserId>,
    /// Held by every change of service accounts and keys: all of them count up one row.
    pub(super) directory: KeyedLocks<()>,
}

/// A lock for each key that somebody holds or waits for. Clones share them.
pub(super) struct KeyedLocks<K: Copy + Eq + Hash>(Arc<Mutex<HashMap<K, Entry>>>);

#[derive(Default)]
struct Entry {
    lock: Arc<AsyncMutex<()>>,
    /// How many hold it or wait for it.
    users: usize,
}

/// A lock that is held until this is dropped.
pub(super) struct KeyedGuard<K: Copy + Eq + Hash> {
    // Released first, forgotten afterwards.
    _held: OwnedMutexGuard<()>,
    _place: Place<K>,
}

/// A place among those who hold or wait for the lock of a key. The last one to leave removes the entry.
struct Place<K: Copy + Eq + Hash> {
    locks: KeyedLocks<K>,
    key: K,
}

impl<K: Copy + Eq + Hash> Clone for KeyedLocks<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Copy + Eq + Hash> Default for KeyedLocks<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Copy + Eq + Hash> KeyedLocks<K> {
    /// Waits for the lock of `key`, in the order of arrival. A caller that stops waiting leaves the queue.
    ///
    /// # Errors
    /// [`AuthError::RateLimited`] when the queue is full, or when the wait takes too long: for the caller's `deadline`, or
    /// for ours.
    pub(super) async fn lock(
        &self,
        key: K,
        writer: Writer,
        deadline: Option<Instant>,
    ) -> Result<KeyedGuard<K>, AuthError> {
        let refused = || AuthError::RateLimited {
            retry_after: RETRY_AFTER,
        };
        let longest = writer.longest_wait();
        let left = deadline.map(|deadline| deadline.saturating_duration_since(monotonic_now()));
        let wait = left.map_or(longest, |left| left.min(longest));
        let Some((lock, place)) = self.enter(key, writer.queue()) else {
            sleep(REFUSAL_DELAY.min(wait)).await;
            return Err(refused());
        };
        let held = timeout(wait, lock.lock_owned()).await;
        Ok(KeyedGuard {
            _held: held.map_err(|_| refused())?,
            _place: place,
        })
    }

    /// Takes a place in the queue; `None` when `queue` others are in it.
    fn enter(&self, key: K, queue: usize) -> Option<(Arc<AsyncMutex<()>>, Place<K>)> {
        let mut entries = self.entries();
        let entry = entries.entry(key).or_default();
        if entry.users > queue {
            return None;
        }
        entry.users += 1;
        let place = Place {
            locks: self.clone(),
            key,
        };
        Some((Arc::clone(&entry.lock), place))
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<K, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Copy + Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut entries = self.locks.entries();
        if let Some(entry) = entries.get_mut(&self.key) {
            entry.users -= 1;
            if entry.users == 0 {
                entries.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locks() -> KeyedLocks<u8> {
        KeyedLocks::default()
    }

    async fn enter(locks: &KeyedLocks<u8>, key: u8) -> Result<KeyedGuard<u8>, AuthError> {
        locks.lock(key, Writer::User, None).await
    }

    #[tokio::test]
    async fn keys_do_not_wait_for_each_other_and_entries_are_removed() {
        let locks = locks();
        let first = enter(&locks, 1).await.unwrap();
        let second = enter(&locks, 2).await.unwrap();
        assert_eq!(locks.entries().len(), 2);
        drop((first, second));
        assert!(locks.entries().is_empty());
    }

    #[tokio::test]
    async fn a_full_queue_refuses_users_and_lets_administrators_wait() {
        let locks = locks();
        let held = enter(&locks, 1).await.unwrap();
        let queue = Writer::User.queue();
        let waiting: Vec<_> = (0..queue)
            .map(|_| {
                let locks = locks.clone();
                tokio::spawn(async move { enter(&locks, 1).await.map(drop) })
            })
            .collect();
        tokio::task::yield_now().await;
        assert!(matches!(
            enter(&locks, 1).await,
            Err(AuthError::RateLimited { .. })
        ));
        let administrator = tokio::spawn({
            let locks = locks.clone();
            async move { locks.lock(1, Writer::Service, None).await.map(drop) }
        });
        tokio::task::yield_now().await;
        drop(held);
        for waiting in waiting {
            waiting.await.unwrap().unwrap();
        }
        administrator.await.unwrap().unwrap();
        assert!(locks.entries().is_empty());
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_while_waiting_leaves_its_place() {
        let locks = locks();
        let held = enter(&locks, 1).await.unwrap();
        let waiting = tokio::spawn({
            let locks = locks.clone();
            async move { enter(&locks, 1).await.map(drop) }
        });
        tokio::task::yield_now().await;
        assert_eq!(locks.entries()[&1].users, 2);
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        assert_eq!(locks.entries()[&1].users, 1);
        drop(held);
        assert!(locks.entries().is_empty());
    }

    #[tokio::test]
    async fn nobody_waits_beyond_the_deadline_or_the_longest_wait() {
        let locks = locks();
        let _held = enter(&locks, 1).await.unwrap();
        for (given, expected) in [
            (Some(Duration::from_millis(200)), Duration::from_millis(200)),
            (Some(Duration::from_secs(60)), Writer::User.longest_wait()),
            (None, Writer::User.longest_wait()),
        ] {
            let began = monotonic_now();
            let deadline = given.map(|given| began + given);
            let refused = locks.lock(1, Writer::User, deadline).await;
            assert!(matches!(refused, Err(AuthError::RateLimited { .. })));
            let waited = began.elapsed();
            assert!(waited + Duration::from_millis(5) >= expected, "{waited:?}");
        }
    }
}

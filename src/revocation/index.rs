//! The revocation index: every live revocation, in memory.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    sync::{
        PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, broadcast, watch};

use super::Cursor;
use crate::{
    clock::Timestamp,
    domain::{PositionedRevocation, Revocation, RevokedSubject, SessionId, TokenId, UserId},
    store::RevocationCounts,
    tokens::AccessClaims,
};

/// How many changes a subscriber may be behind before it has to start again from a snapshot.
const CHANGES: usize = 4_096;
/// Nothing has been read yet.
const NEVER: u64 = u64::MAX;
/// A map smaller than this is not worth shrinking.
const SMALL: usize = 1_024;

/// Something that this replica has just learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Tokens were revoked.
    Revoked(PositionedRevocation),
    /// The signing keys, or their states, have changed.
    KeysChanged,
}

/// What is revoked and not yet expired, and how fresh that knowledge is.
///
/// Reads take a lock for two look-ups and never wait for I/O. Learning a revocation twice changes nothing.
pub struct RevocationIndex {
    entries: RwLock<Entries>,
    /// When the last complete read of the table began: microseconds of the monotonic clock.
    read_at: AtomicU64,
    /// What the last complete read of the table came to.
    known: watch::Sender<Cursor>,
    read_wanted: Notify,
    changes: broadcast::Sender<Change>,
}

#[derive(Default)]
struct Entries {
    sessions: HashMap<SessionId, RevokedSession>,
    users: HashMap<UserId, RevokedUser>,
}

struct RevokedSession {
    /// Until when it has to be remembered.
    expires_at: Timestamp,
    position: i64,
}

struct RevokedUser {
    not_before: Timestamp,
    expires_at: Timestamp,
    position: i64,
}

impl Default for RevocationIndex {
    fn default() -> Self {
        Self {
            entries: RwLock::default(),
            read_at: AtomicU64::new(NEVER),
            known: watch::Sender::new(Cursor::START),
            read_wanted: Notify::new(),
            changes: broadcast::Sender::new(CHANGES),
        }
    }
}

impl RevocationIndex {
    /// Whether a token is revoked, or one of those by which services act in it.
    pub fn is_revoked(&self, claims: &AccessClaims) -> bool {
        let entries = self.read();
        entries.revoke(claims.user_id, claims.session_id, claims.token_id)
            || claims
                .actors
                .iter()
                .any(|actor| entries.revoke(actor.subject, actor.session_id, actor.token_id))
    }

    /// Whether a session is known to be revoked. The database may have lost that, by a restored backup.
    pub fn is_session_revoked(&self, id: SessionId) -> bool {
        self.read().sessions.contains_key(&id)
    }

    /// Reserves memory for what is about to be learned: maps that grow step by step leave the memory of every step
    /// behind.
    pub(super) fn reserve(&self, counts: RevocationCounts) {
        let mut entries = self.write();
        let Entries { sessions, users } = &mut *entries;
        sessions.reserve(counts.sessions.saturating_sub(sessions.len()));
        users.reserve(counts.users.saturating_sub(users.len()));
    }

    /// Adds revocations, and announces those that were not known.
    pub fn learn(&self, revocations: &[PositionedRevocation]) {
        let mut entries = self.write();
        for revocation in revocations {
            if entries.insert(revocation) {
                // While the lock is held: a reader of the table that finds it known, and records that all
                // is known, must not overtake the announcement. (Subscribers subscribe before they take
                // a snapshot, so they miss nothing in between.)
                self.announce(Change::Revoked(*revocation));
            }
        }
    }

    /// Announces that the signing keys changed.
    pub fn announce_keys_changed(&self) {
        self.announce(Change::KeysChanged);
    }

    fn announce(&self, change: Change) {
        // It fails when there are no subscribers.
        let _ = self.changes.send(change);
    }

    /// Every change from now on. Take a snapshot with [`live_since`](Self::live_since) *after*
    /// subscribing: a change may come twice then, and none is missed.
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// The live revocations at `position` and beyond, in no order, with those whose position is not known; `i64::MIN` for
    /// all. When a session was revoked is not kept, as nothing depends on it.
    pub fn live_since(&self, position: i64) -> Vec<PositionedRevocation> {
        let entries = self.read();
        let sessions = entries.sessions.iter().map(|(id, entry)| entry.of(*id));
        let users = entries.users.iter().map(|(id, entry)| entry.of(*id));
        sessions
            .chain(users)
            .filter(|revocation| revocation.position == 0 || revocation.position >= position)
            .collect()
    }

    /// How fresh this index is: it has every revocation up to here.
    pub fn cursor(&self) -> Cursor {
        *self.known.borrow()
    }

    /// Waits until this index is at least as fresh as `cursor`, and has the database read meanwhile. It may be dropped.
    pub async fn is_at_least(&self, cursor: Cursor) {
        let mut known = self.known.subscribe();
        if known.borrow_and_update().is_at_least(cursor) {
            return;
        }
        self.read_wanted.notify_one();
        // The sender lives as long as this index.
        let _ = known.wait_for(|known| known.is_at_least(cursor)).await;
    }

    /// Completes when somebody waits for what the next read will find.
    pub(super) async fn read_wanted(&self) {
        self.read_wanted.notified().await;
    }

    /// Records that everything is known that was committed when a read began, at `began` on the monotonic
    /// clock, which is every revocation up to `known`.
    pub(super) fn caught_up(&self, began: Duration, known: Cursor) {
        self.known.send_replace(known);
        self.read_at.store(micros(began), Ordering::Release);
    }

    /// When the table was last read completely. To tell how fresh an answer of this index is, call this *before* asking:
    /// a read in between must not make an old answer look fresh.
    pub fn last_read(&self) -> LastRead {
        LastRead(self.read_at.load(Ordering::Acquire))
    }

    /// The moment up to which every revocation is known: [`LastRead::as_of`].
    pub fn as_of(&self, now: Timestamp, monotonic: Duration) -> Timestamp {
        self.last_read().as_of(now, monotonic)
    }

    /// Drops revocations whose last token has expired.
    pub fn forget_expired(&self, now: Timestamp) {
        let mut entries = self.write();
        entries.sessions.retain(|_, entry| entry.expires_at > now);
        entries.users.retain(|_, entry| entry.expires_at > now);
        shrink(&mut entries.sessions);
        shrink(&mut entries.users);
    }

    /// How many revocations are remembered.
    pub fn len(&self) -> usize {
        let entries = self.read();
        entries.sessions.len() + entries.users.len()
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn read(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Entries> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When everything was known. Its age is measured on the monotonic clock, so that setting the time of day
/// does not change it.
#[derive(Clone, Copy, Debug)]
pub struct LastRead(u64);

impl LastRead {
    /// How long ago that was, when the monotonic clock shows `monotonic`.
    pub fn staleness(self, monotonic: Duration) -> Duration {
        match self.0 {
            NEVER => Duration::MAX,
            read_at => Duration::from_micros(micros(monotonic).saturating_sub(read_at)),
        }
    }

    /// When that was, by the time of day.
    pub fn as_of(self, now: Timestamp, monotonic: Duration) -> Timestamp {
        match self.staleness(monotonic) {
            Duration::MAX => Timestamp::default(),
            staleness => now - staleness,
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(NEVER - 1)
}

/// Frees memory when most of it is unused. Shrinking moves every entry while readers wait, so it is
/// not done for little.
fn shrink<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    let wanted = map.len().max(SMALL);
    if map.capacity() / 4 > wanted {
        map.shrink_to(wanted * 2);
    }
}

impl Entries {
    /// Whether a token with these claims `sub`, `sid` and `jti` is revoked.
    fn revoke(&self, subject: UserId, session: SessionId, token: TokenId) -> bool {
        if self.sessions.contains_key(&session) {
            return true;
        }
        // The token's id has the millisecond of its issue; `iat` is earlier and in whole seconds.
        let issued_at = token.created_at();
        let user = self.users.get(&subject);
        user.is_some_and(|user| issued_at.millis() <= user.not_before.millis())
    }

    /// Whether it was not known before.
    fn insert(&mut self, positioned: &PositionedRevocation) -> bool {
        let PositionedRevocation {
            position,
            revocation,
        } = *positioned;
        match revocation.subject {
            RevokedSubject::Session(id) => match self.sessions.entry(id) {
                Entry::Vacant(vacant) => {
                    vacant.insert(RevokedSession {
                        expires_at: revocation.expires_at,
                        position,
                    });
                    true
                }
                Entry::Occupied(mut known) => {
                    let known = known.get_mut();
                    known.expires_at = known.expires_at.max(revocation.expires_at);
                    known.position = known.position.max(position);
                    false
                }
            },
            RevokedSubject::User(id) => match self.users.entry(id) {
                Entry::Vacant(vacant) => {
                    vacant.insert(RevokedUser {
                        not_before: revocation.not_before,
                        expires_at: revocation.expires_at,
                        position,
                    });
                    true
                }
                Entry::Occupied(mut known) => {
                    let known = known.get_mut();
                    let is_new = known.not_before < revocation.not_before;
                    known.not_before = known.not_before.max(revocation.not_before);
                    known.expires_at = known.expires_at.max(revocation.expires_at);
                    known.position = known.position.max(position);
                    is_new
                }
            },
        }
    }
}

impl RevokedSession {
    fn of(&self, id: SessionId) -> PositionedRevocation {
        // When it was revoked is not kept: all tokens of the session are revoked.
        positioned(
            RevokedSubject::Session(id),
            Timestamp::default(),
            self.expires_at,
            self.position,
        )
    }
}

impl RevokedUser {
    fn of(&self, id: UserId) -> PositionedRevocation {
        positioned(
            RevokedSubject::User(id),
            self.not_before,
            self.expires_at,
            self.position,
        )
    }
}

const fn positioned(
    subject: RevokedSubject,
    not_before: Timestamp,
    expires_at: Timestamp,
    position: i64,
) -> PositionedRevocation {
    PositionedRevocation {
        position,
        revocation: Revocation {
            subject,
            not_before,
            created_at: not_before,
            expires_at,
        },
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;

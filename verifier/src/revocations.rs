//! The current set of revocations.
//!
//! Readers take no lock. The entries lie in shards, each an immutable map behind an atomic pointer: a writer copies the
//! shards that it changes, some hundred entries each, while readers continue with the old ones.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;

use crate::{
    claims::{Actor, Claims},
    clock::UnixMillis,
    id::Id,
};

/// How many shards there are. With 100,000 revocations, one has 400.
const SHARDS: usize = 256;

/// How long a revocation is kept after its end: a clock that is set back must not bring a revoked token to life.
const KEPT_LONGER: Duration = Duration::from_secs(60);

/// Which access tokens are invalid before they expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Revocation {
    pub(crate) subject: Subject,
    /// When it can be forgotten.
    pub(crate) expires_at: UnixMillis,
}

/// Whose tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// All of a session.
    Session(Id),
    /// Those of a user that were issued in this millisecond or earlier.
    User(Id, UnixMillis),
}

/// All revocations.
#[derive(Default)]
pub(crate) struct Revocations {
    sessions: Shards<RevokedSession>,
    users: Shards<RevokedUser>,
    /// One writer at a time.
    writer: Mutex<()>,
}

#[derive(Clone, Copy)]
struct RevokedSession {
    expires_at: UnixMillis,
}

#[derive(Clone, Copy)]
struct RevokedUser {
    not_before: UnixMillis,
    expires_at: UnixMillis,
}

impl Revocations {
    /// Those of a snapshot.
    pub(crate) fn of(revocations: &[Revocation]) -> Self {
        let all = Self::default();
        all.learn(revocations);
        all
    }

    /// Whether a token is revoked, or one of those by which services act in it.
    pub(crate) fn covers(&self, claims: &Claims) -> bool {
        self.has_session(claims.session_id)
            || self.has_user(claims.subject, claims.token_id)
            || claims
                .actor
                .as_ref()
                .is_some_and(|actor| actor.chain().any(|actor| self.covers_actor(actor)))
    }

    fn covers_actor(&self, actor: &Actor) -> bool {
        if actor
            .session_id
            .is_some_and(|session| self.has_session(session))
        {
            return true;
        }
        let subject = actor.subject.parse().ok();
        let named = subject.zip(actor.token_id);
        named.is_some_and(|(subject, token)| self.has_user(subject, token))
    }

    fn has_session(&self, session: Id) -> bool {
        self.sessions.shard(session).load().contains_key(&session)
    }

    /// Whether the tokens of a subject are revoked that were issued when that one was.
    fn has_user(&self, subject: Id, token: Id) -> bool {
        let revoked = self.users.shard(subject).load();
        revoked
            .get(&subject)
            .is_some_and(|user| token.time() <= user.not_before)
    }

    /// Adds revocations. To add one twice, or in another order, changes nothing.
    pub(crate) fn learn(&self, revocations: &[Revocation]) {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut sessions, mut users) = (Vec::new(), Vec::new());
        for revocation in revocations {
            let expires_at = revocation.expires_at;
            match revocation.subject {
                Subject::Session(id) => sessions.push((id, RevokedSession { expires_at })),
                Subject::User(id, not_before) => {
                    let user = RevokedUser {
                        not_before,
                        expires_at,
                    };
                    users.push((id, user));
                }
            }
        }
        self.sessions.merge(sessions, |known, new| {
            known.expires_at = known.expires_at.max(new.expires_at);
        });
        self.users.merge(users, |known, new| {
            known.not_before = known.not_before.max(new.not_before);
            known.expires_at = known.expires_at.max(new.expires_at);
        });
    }

    /// Drops those whose last token has expired; with `leeway`, a token is accepted so much longer.
    pub(crate) fn forget(&self, now: UnixMillis, leeway: Duration) {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let is_live = |end: UnixMillis| now < end.plus(leeway).plus(KEPT_LONGER);
        self.sessions.retain(|entry| is_live(entry.expires_at));
        self.users.retain(|entry| is_live(entry.expires_at));
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len() + self.users.len()
    }
}

struct Shards<V>(Box<[ArcSwap<HashMap<Id, V>>]>);

impl<V> Default for Shards<V> {
    fn default() -> Self {
        // One empty map for all, until they have something of their own.
        let empty = Arc::new(HashMap::new());
        let shard = || ArcSwap::new(Arc::clone(&empty));
        Self(std::iter::repeat_with(shard).take(SHARDS).collect())
    }
}

impl<V: Clone> Shards<V> {
    fn shard(&self, id: Id) -> &ArcSwap<HashMap<Id, V>> {
        &self.0[Self::number(id)]
    }

    /// The last byte of an id is random.
    fn number(id: Id) -> usize {
        usize::from(id.as_bytes()[15])
    }

    /// Copies each shard that gets an entry, once.
    fn merge(&self, mut entries: Vec<(Id, V)>, join: impl Fn(&mut V, &V)) {
        entries.sort_by_key(|(id, _)| Self::number(*id));
        for group in entries.chunk_by(|(a, _), (b, _)| Self::number(*a) == Self::number(*b)) {
            let shard = self.shard(group[0].0);
            let mut map = HashMap::clone(&shard.load());
            for (id, entry) in group {
                map.entry(*id)
                    .and_modify(|known| join(known, entry))
                    .or_insert_with(|| entry.clone());
            }
            shard.store(Arc::new(map));
        }
    }

    fn retain(&self, keep: impl Fn(&V) -> bool) {
        for shard in &self.0 {
            let map = shard.load();
            if map.values().all(&keep) {
                continue;
            }
            let kept = map.iter().filter(|(_, entry)| keep(entry));
            let kept = kept.map(|(id, entry)| (*id, entry.clone())).collect();
            shard.store(Arc::new(kept));
        }
    }

    fn len(&self) -> usize {
        self.0.iter().map(|shard| shard.load().len()).sum()
    }
}

#[cfg(test)]
#[path = "revocations_tests.rs"]
mod tests;

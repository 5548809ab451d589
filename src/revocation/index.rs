//! The revocation index: every live revocation, in memory.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicI64, Ordering},
    },
};

use crate::{
    clock::Timestamp,
    domain::{Revocation, RevokedSubject, SessionId, UserId},
    tokens::AccessClaims,
};

/// What is revoked and not yet expired, and how fresh that knowledge is.
///
/// Reads take a lock for two look-ups and never wait for I/O; inserting twice changes nothing, so that
/// whoever is in doubt may tell it again.
#[derive(Default)]
pub struct RevocationIndex {
    entries: RwLock<Entries>,
    as_of: AtomicI64,
}

#[derive(Default)]
struct Entries {
    /// Until when each revoked session has to be remembered.
    sessions: HashMap<SessionId, Timestamp>,
    users: HashMap<UserId, RevokedUser>,
}

struct RevokedUser {
    not_before: Timestamp,
    expires_at: Timestamp,
}

impl RevocationIndex {
    /// Whether the token was revoked.
    pub fn is_revoked(&self, claims: &AccessClaims) -> bool {
        let entries = self.read();
        if entries.sessions.contains_key(&claims.session_id) {
            return true;
        }
        // `iat` counts whole seconds; the token's own id tells the millisecond.
        let issued_at = claims.token_id.created_at();
        let user = entries.users.get(&claims.user_id);
        user.is_some_and(|user| issued_at.millis() <= user.not_before.millis())
    }

    /// Takes note of a revocation.
    pub fn insert(&self, revocation: &Revocation) {
        self.write().insert(revocation);
    }

    /// Takes note of all revocations written up to `as_of`.
    pub fn catch_up(&self, revocations: &[Revocation], as_of: Timestamp) {
        let mut entries = self.write();
        for revocation in revocations {
            entries.insert(revocation);
        }
        drop(entries);
        self.as_of.fetch_max(as_of.micros(), Ordering::Release);
    }

    /// The moment up to which every revocation is known.
    pub fn as_of(&self) -> Timestamp {
        Timestamp::from_micros(self.as_of.load(Ordering::Acquire))
    }

    /// Drops revocations whose last token has expired by itself.
    pub fn forget_expired(&self, now: Timestamp) {
        let mut entries = self.write();
        entries.sessions.retain(|_, expires_at| *expires_at > now);
        entries.users.retain(|_, user| user.expires_at > now);
        entries.sessions.shrink_to_fit();
        entries.users.shrink_to_fit();
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

impl Entries {
    fn insert(&mut self, revocation: &Revocation) {
        match revocation.subject {
            RevokedSubject::Session(id) => {
                let expires_at = self.sessions.entry(id).or_insert(revocation.expires_at);
                *expires_at = revocation.expires_at.max(*expires_at);
            }
            RevokedSubject::User(id) => match self.users.entry(id) {
                Entry::Vacant(vacant) => {
                    vacant.insert(RevokedUser {
                        not_before: revocation.not_before,
                        expires_at: revocation.expires_at,
                    });
                }
                Entry::Occupied(mut known) => {
                    let known = known.get_mut();
                    known.not_before = known.not_before.max(revocation.not_before);
                    known.expires_at = known.expires_at.max(revocation.expires_at);
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::TokenId;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn claims(issued_at: Timestamp) -> AccessClaims {
        AccessClaims {
            user_id: UserId::from_bytes([1; 16]),
            session_id: SessionId::from_bytes([2; 16]),
            token_id: TokenId::generate(issued_at),
            roles: Vec::new(),
            audiences: Vec::new(),
            issued_at: issued_at.floor_to_second(),
            expires_at: at(10_000),
            kid: String::new(),
        }
    }

    fn revoke(subject: RevokedSubject, not_before: Timestamp, expires_at: Timestamp) -> Revocation {
        Revocation {
            subject,
            not_before,
            created_at: not_before,
            expires_at,
        }
    }

    #[test]
    fn a_revoked_session_is_dead_until_it_is_forgotten() {
        let index = RevocationIndex::default();
        let token = claims(at(1_000));
        assert!(!index.is_revoked(&token));
        let revocation = revoke(
            RevokedSubject::Session(token.session_id),
            at(1_001),
            at(2_000),
        );
        index.insert(&revocation);
        index.insert(&revocation);
        assert!(index.is_revoked(&token));
        assert_eq!(index.len(), 1);
        index.forget_expired(at(1_999));
        assert!(index.is_revoked(&token));
        index.forget_expired(at(2_000));
        assert!(index.is_empty());
    }

    #[test]
    fn a_user_is_dead_up_to_the_millisecond_and_lives_after_it() {
        let index = RevocationIndex::default();
        let user = RevokedSubject::User(UserId::from_bytes([1; 16]));
        let moment = Timestamp::from_micros(1_000_500_000);
        index.insert(&revoke(user, moment, at(2_000)));
        index.insert(&revoke(user, at(10), at(2_000)));
        assert!(index.is_revoked(&claims(moment)));
        assert!(index.is_revoked(&claims(at(999))));
        assert!(!index.is_revoked(&claims(Timestamp::from_micros(1_000_501_000))));
    }

    #[test]
    fn freshness_never_goes_back() {
        let index = RevocationIndex::default();
        index.catch_up(&[], at(10));
        index.catch_up(&[], at(5));
        assert_eq!(index.as_of(), at(10));
    }
}

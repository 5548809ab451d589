//! A revocation: which access tokens are invalid before they expire.

use std::time::Duration;

use super::{SessionId, UserId};
use crate::clock::Timestamp;

/// Whose access tokens a revocation makes invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RevokedSubject {
    /// Every access token of one session.
    Session(SessionId),
    /// Every access token of one user that was not issued after the revocation's `not_before`.
    User(UserId),
}

/// One revocation. Every replica keeps it until the last token that it concerns has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Whose tokens it makes invalid.
    pub subject: RevokedSubject,
    /// For a user: tokens issued in this millisecond or earlier are invalid. For a session: when it was revoked.
    pub not_before: Timestamp,
    /// When it was written.
    pub created_at: Timestamp,
    /// When the last token that it concerns has expired, and the revocation can be deleted.
    pub expires_at: Timestamp,
}

impl Revocation {
    /// Revokes a session at `now`; the revocation can be deleted at `expires_at`.
    pub const fn of_session(id: SessionId, now: Timestamp, expires_at: Timestamp) -> Self {
        Self {
            subject: RevokedSubject::Session(id),
            not_before: now,
            created_at: now,
            expires_at,
        }
    }

    /// Revokes all tokens that were issued to a user before the millisecond of `now`. Logins from then on are not
    /// concerned.
    pub fn of_user(id: UserId, now: Timestamp, expires_at: Timestamp) -> Self {
        Self {
            subject: RevokedSubject::User(id),
            not_before: now - Duration::from_millis(1),
            created_at: now,
            expires_at,
        }
    }
}

/// A revocation and its position in the order in which replicas read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PositionedRevocation {
    /// Greater than the position of every revocation that was visible when this one was written; 0 when unknown.
    pub position: i64,
    /// The revocation.
    pub revocation: Revocation,
}

/// Names a history of revocations in which positions compare. A restored backup or a promoted standby may have lost
/// revocations and goes on with another history, so it has another epoch (`store::feed_state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FeedEpoch([u8; Self::LENGTH]);

impl FeedEpoch {
    /// In bytes.
    pub const LENGTH: usize = 8;

    /// The epoch with these bytes; `None` for zeros, which stand for an unknown one.
    pub fn from_bytes(bytes: [u8; Self::LENGTH]) -> Option<Self> {
        (bytes != [0; Self::LENGTH]).then_some(Self(bytes))
    }

    /// Its bytes, not all zero.
    pub const fn bytes(self) -> [u8; Self::LENGTH] {
        self.0
    }
}

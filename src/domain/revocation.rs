//! A revocation: which access tokens are dead before their time.

use std::time::Duration;

use super::{SessionId, UserId};
use crate::clock::Timestamp;

/// What a revocation kills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RevokedSubject {
    /// Every access token of one session.
    Session(SessionId),
    /// Every access token of one user that was not issued after the revocation's `not_before`.
    User(UserId),
}

/// One revocation, known to every replica until the last token it concerns has expired by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// What it kills.
    pub subject: RevokedSubject,
    /// For a user: tokens not issued after this millisecond are dead. For a session: when it was revoked.
    pub not_before: Timestamp,
    /// When it was written.
    pub created_at: Timestamp,
    /// When it can be forgotten.
    pub expires_at: Timestamp,
}

impl Revocation {
    /// The revocation of a session, made at `now`, that is forgotten at `expires_at`.
    pub const fn of_session(id: SessionId, now: Timestamp, expires_at: Timestamp) -> Self {
        Self {
            subject: RevokedSubject::Session(id),
            not_before: now,
            created_at: now,
            expires_at,
        }
    }

    /// The revocation of all tokens that a user was issued before the millisecond of `now`: whoever logs in
    /// from then on is not concerned.
    pub fn of_user(id: UserId, now: Timestamp, expires_at: Timestamp) -> Self {
        Self {
            subject: RevokedSubject::User(id),
            not_before: now - Duration::from_millis(1),
            created_at: now,
            expires_at,
        }
    }
}

/// A revocation with its place in the order in which replicas read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PositionedRevocation {
    /// Greater than that of every revocation that was visible when this one was written; 0 when unknown.
    pub position: i64,
    /// The revocation.
    pub revocation: Revocation,
}

//! A revocation: which access tokens are dead before their time.

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

/// A revocation with its place in the order in which replicas read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PositionedRevocation {
    /// Greater than that of every revocation that was visible when this one was written; 0 when unknown.
    pub position: i64,
    /// The revocation.
    pub revocation: Revocation,
}

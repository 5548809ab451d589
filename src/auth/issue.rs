//! Issues a pair: an access token and the refresh token of a session's generation.

use super::{Auth, AuthError};
use crate::{
    clock::Timestamp,
    domain::{Roles, Session, SessionId, UserId},
    secret::Secret,
    tokens::Subject,
};

/// The tokens that a client gets from Login, Refresh and `ChangePassword`.
pub struct TokenPair {
    /// The JWT.
    pub access_token: Secret<String>,
    /// The refresh token.
    pub refresh_token: Secret<String>,
    /// When the access token expires.
    pub access_expires_at: Timestamp,
    /// When the refresh token expires if it is not used.
    pub refresh_expires_at: Timestamp,
    /// The session of both.
    pub session_id: SessionId,
}

/// What the pair is issued for.
pub(super) struct Grant<'a> {
    pub(super) user_id: UserId,
    pub(super) roles: &'a Roles,
    pub(super) session_id: SessionId,
    pub(super) generation: i32,
    pub(super) refresh_expires_at: Timestamp,
}

impl<'a> Grant<'a> {
    /// The grant of a session in its present generation, for a user with these roles.
    pub(super) fn of(session: &Session, roles: &'a Roles) -> Self {
        Self {
            user_id: session.user_id,
            roles,
            session_id: session.id,
            generation: session.generation,
            refresh_expires_at: session.expires_at(),
        }
    }
}

impl Auth {
    /// Signs the access token and derives the refresh token. `now` is read after the session was written: if all sessions
    /// of its user are revoked meanwhile, either this one is among them, or its tokens are newer than the revocation.
    pub(super) fn issue_pair(
        &self,
        grant: &Grant<'_>,
        now: Timestamp,
    ) -> Result<TokenPair, AuthError> {
        let parts = &self.parts;
        let subject = Subject {
            user_id: grant.user_id,
            session_id: grant.session_id,
            roles: grant.roles,
        };
        let access = parts
            .profile
            .issue(&parts.keyring, &subject, now)
            .ok_or_else(|| AuthError::Internal("no key could sign an access token".to_owned()))?;
        Ok(TokenPair {
            access_token: access.token,
            access_expires_at: access.expires_at,
            refresh_token: parts
                .derived_keys
                .refresh_token(grant.session_id, grant.generation),
            refresh_expires_at: grant.refresh_expires_at,
            session_id: grant.session_id,
        })
    }
}

//! Issues a pair: an access token and the refresh token of a session's generation.

use super::{Auth, AuthError};
use crate::{
    clock::Timestamp,
    config::ENROLLMENT_AUDIENCE,
    domain::{FieldViolation, Roles, Session, SessionClaims, SessionId, UserId, ViolationReason},
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
    pub(super) claims: &'a SessionClaims,
    /// Some of the session's audiences, for this access token alone; `None` for all.
    pub(super) narrowed: Option<&'a [String]>,
}

impl<'a> Grant<'a> {
    /// The grant of a session in its present generation, for a user with these roles.
    pub(super) fn of(session: &'a Session, roles: &'a Roles) -> Self {
        Self {
            user_id: session.user_id,
            roles,
            session_id: session.id,
            generation: session.generation,
            refresh_expires_at: session.expires_at(),
            claims: &session.claims,
            narrowed: None,
        }
    }

    fn audiences(&self, configured: &[String]) -> Vec<String> {
        let mut audiences = self.claims.audiences_of(configured);
        if let Some(narrowed) = self.narrowed {
            audiences.retain(|audience| narrowed.contains(audience));
        }
        audiences
    }
}

impl Auth {
    /// Signs the access token and derives the refresh token. A revocation of all sessions of the user concerns the tokens
    /// that are dated before it. `now` is read after the session was written, and the token is dated after the end of the
    /// sessions before: so this session is among those that are revoked, or its tokens are newer, whatever clocks say.
    ///
    /// Who must have a second factor and has not proved one gets an access token that is good for enrolling one alone.
    pub(super) fn issue_pair(
        &self,
        grant: &Grant<'_>,
        now: Timestamp,
    ) -> Result<TokenPair, AuthError> {
        let parts = &self.parts;
        let is_enrollment = parts.settings.must_prove_factor(grant.roles, grant.claims);
        let audiences = match is_enrollment {
            true => vec![ENROLLMENT_AUDIENCE.to_owned()],
            false => grant.audiences(&parts.profile.audiences),
        };
        if audiences.is_empty() {
            // None of those that were chosen is configured any more. A token for others would be for more than was asked.
            return Err(AuthError::SessionRevoked);
        }
        let none = Roles::default();
        let subject = Subject {
            user_id: grant.user_id,
            session_id: grant.session_id,
            roles: if is_enrollment { &none } else { grant.roles },
            audiences: &audiences,
            authenticated_at: grant.claims.authenticated_at,
            methods: &grant.claims.methods,
            acr: grant.claims.acr(),
            issued_after: grant.claims.issued_after,
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

    /// The audiences that a login or a refresh asks for; `None` when it asks for none in particular.
    ///
    /// # Errors
    /// [`AuthError::InvalidFields`] for an audience that is not configured.
    pub(super) fn asked_audiences(
        &self,
        asked: &[String],
    ) -> Result<Option<Vec<String>>, AuthError> {
        let configured = &self.parts.profile.audiences;
        if asked.iter().all(|audience| configured.contains(audience)) {
            let kept = configured
                .iter()
                .filter(|audience| asked.contains(audience));
            return Ok((!asked.is_empty()).then(|| kept.cloned().collect()));
        }
        Err(not_an_audience(
            "each must be an audience that the server issues tokens for",
        ))
    }
}

/// The error of audiences that cannot be had.
pub(super) fn not_an_audience(rule: &'static str) -> AuthError {
    let violation = FieldViolation::new("audiences", ViolationReason::NotAllowed, rule);
    AuthError::InvalidFields(vec![violation])
}

//! What verifiers need to validate access tokens by themselves: the keys and the feed.

use std::sync::Arc;

use super::{Auth, AuthError};
use crate::{
    domain::FieldViolation,
    revocation::{Cursor, Hearing},
    tokens::{AccessClaims, VerifiedClaims},
};

impl Auth {
    /// Watches revocations and keys from `cursor` on, for as long as the access token that `claims`
    /// are of is good.
    ///
    /// # Errors
    /// [`AuthError::InvalidFields`] for a cursor that nobody has given out; [`AuthError::RateLimited`] when there are as
    /// many watchers as may be. On the stream:
    /// [`AuthError::TokenExpired`], [`AuthError::TokenRevoked`], [`AuthError::TokenInvalid`].
    pub fn watch(
        &self,
        cursor: &str,
        claims: Arc<VerifiedClaims>,
    ) -> Result<Hearing<AuthError>, AuthError> {
        let cursor = Cursor::parse("cursor", cursor)
            .map_err(|violation: FieldViolation| AuthError::InvalidFields(vec![violation]))?;
        let place = self.watcher_places.take(claims.user_id)?;
        let auth = self.clone();
        Ok(self.parts.feed.watch(cursor, move || {
            // Taken for as long as the watcher is there, with this closure.
            let _place = &place;
            auth.still_good(&claims)
        }))
    }

    /// Judges the claims of a token again that was found good before.
    fn still_good(&self, claims: &AccessClaims) -> Result<(), AuthError> {
        let parts = &self.parts;
        let now = parts.clock.now();
        parts.profile.check_expiry(claims, now)?;
        if parts.revocations.is_revoked(claims) {
            return Err(AuthError::TokenRevoked);
        }
        match parts.keyring.find(&claims.kid, now) {
            Some(_) => Ok(()),
            None => Err(AuthError::TokenInvalid),
        }
    }
}

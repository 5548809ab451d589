//! The stream of revocations and keys for verifiers that validate access tokens themselves.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use super::{Auth, AuthError, user_places::Bounds};
use crate::{
    domain::{FieldViolation, UserId},
    revocation::{Cursor, WatchEvents},
    tokens::{AccessClaims, VerifiedClaims},
};

/// The places of watchers: each costs a task, a queue and its share of every change. One user has half of them.
pub(super) fn places(most: NonZeroU32) -> Bounds {
    let all = usize::try_from(most.get()).unwrap_or(usize::MAX);
    Bounds {
        all,
        per_user: (all / 2).max(1),
        retry_after: Duration::from_secs(5),
    }
}

/// Who watches.
pub enum Watcher {
    /// The holder of the access token with these claims.
    Token(Arc<VerifiedClaims>),
    /// The holder of the client certificate with this SHA-256.
    Certificate {
        /// Of its DER form.
        sha256: [u8; 32],
    },
}

impl Watcher {
    /// Whose places it takes.
    fn place_key(&self) -> UserId {
        match self {
            Self::Token(claims) => claims.user_id,
            Self::Certificate { sha256 } => {
                let (key, _) = sha256.split_first_chunk().expect("32 bytes");
                UserId::from_bytes(*key)
            }
        }
    }
}

impl Auth {
    /// Watches revocations and keys from `cursor` on, for as long as the watcher may.
    ///
    /// # Errors
    /// [`AuthError::InvalidFields`] for a cursor that no replica has issued; [`AuthError::RateLimited`] when there are as
    /// many watchers as may be. On the stream:
    /// [`AuthError::TokenExpired`], [`AuthError::TokenRevoked`], [`AuthError::TokenInvalid`].
    pub fn watch(
        &self,
        cursor: &str,
        watcher: Watcher,
    ) -> Result<WatchEvents<AuthError>, AuthError> {
        let cursor = Cursor::parse("cursor", cursor)
            .map_err(|violation: FieldViolation| AuthError::InvalidFields(vec![violation]))?;
        let place = self.watcher_places.take(watcher.place_key())?;
        let auth = self.clone();
        Ok(self.parts.feed.watch(cursor, move || {
            // Taken for as long as the watcher is there, with this closure.
            let _place = &place;
            match &watcher {
                Watcher::Token(claims) => auth.check_again(claims),
                // Its connection ends with it.
                Watcher::Certificate { .. } => Ok(()),
            }
        }))
    }

    /// Checks a token again that was valid before.
    ///
    /// # Errors
    /// [`AuthError::TokenExpired`], [`AuthError::TokenRevoked`], [`AuthError::TokenInvalid`] when its key is not accepted any more.
    pub(super) fn check_again(&self, claims: &AccessClaims) -> Result<(), AuthError> {
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

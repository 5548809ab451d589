//! Logout: revokes the session of a refresh token, and its access tokens with it.

use super::{Auth, AuthError, RequestContext, Revoked, write_locks::Writer};
use crate::store::AuditKind;

impl Auth {
    /// Revokes the session that a refresh token belongs to. Idempotent.
    ///
    /// # Errors
    /// [`AuthError::RefreshTokenInvalid`], [`AuthError::RateLimited`] when others are busy ending the same session,
    /// [`AuthError::DatabaseUnavailable`].
    pub async fn logout(
        &self,
        refresh_token: &str,
        context: &RequestContext,
    ) -> Result<Revoked<()>, AuthError> {
        let token = self.parse_refresh_token(refresh_token)?;
        let now = self.parts.clock.now();
        let (kind, writer) = (AuditKind::LoggedOut, Writer::User);
        self.revoke_session(token.session_id, kind, writer, context, now)
            .await
    }
}

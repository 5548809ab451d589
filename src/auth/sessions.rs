//! What users do with their own sessions: look at them, end one. (`users` ends them all.)

use super::{Auth, AuthError, RequestContext};
use crate::{
    domain::{Session, SessionId, UserId},
    store::AuditKind,
};

/// Some of a user's sessions.
pub struct SessionPage {
    /// The sessions, the latest login first.
    pub sessions: Vec<Session>,
    /// Where the next page begins: after this session. `None` when there is none.
    pub next: Option<SessionId>,
}

impl Auth {
    /// The sessions of a user that can still be refreshed, the latest login first: `size` of them at most, beginning
    /// after the session `after`.
    ///
    /// # Errors
    /// [`AuthError::DatabaseUnavailable`].
    pub async fn list_sessions(
        &self,
        user_id: UserId,
        after: Option<SessionId>,
        size: u16,
    ) -> Result<SessionPage, AuthError> {
        let now = self.parts.clock.now();
        let older_than = after.unwrap_or(SessionId::MAX);
        // One more than asked for tells whether there is a next page.
        let mut sessions = self
            .parts
            .store
            .list_sessions(user_id, now, older_than, i64::from(size) + 1)
            .await?;
        let more = sessions.len() > usize::from(size);
        sessions.truncate(size.into());
        let next = sessions.last().filter(|_| more).map(|last| last.id);
        Ok(SessionPage { sessions, next })
    }

    /// Ends a session, which must be the user's. Doing so twice succeeds twice.
    ///
    /// # Errors
    /// [`AuthError::SessionNotFound`], [`AuthError::DatabaseUnavailable`].
    pub async fn revoke_session_of(
        &self,
        user_id: UserId,
        session_id: SessionId,
        context: &RequestContext,
    ) -> Result<(), AuthError> {
        // A session never changes hands, so this look need not be part of the change.
        let found = self.parts.store.find_session(session_id).await?;
        if found.is_none_or(|session| session.user_id != user_id) {
            return Err(AuthError::SessionNotFound);
        }
        let now = self.parts.clock.now();
        self.revoke_session(session_id, AuditKind::SessionRevoked, context, now)
            .await?;
        Ok(())
    }
}

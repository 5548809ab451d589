//! A user's own sessions: list them, revoke one. (`users` revokes all of them.)

use tokio::time::sleep;

use super::{Auth, AuthError, RequestContext, Revoked, write_locks::Writer};
use crate::{
    clock::monotonic_now,
    domain::{Session, SessionId, UserId},
    store::AuditKind,
};

/// Some of a user's sessions.
pub struct SessionPage {
    /// The sessions, the latest login first.
    pub sessions: Vec<Session>,
    /// The next page begins after this session. `None` on the last page.
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
        // One more than asked for tells whether there is a next page.
        let mut sessions = self
            .parts
            .store
            .list_sessions(user_id, now, after, i64::from(size) + 1)
            .await?;
        let more = sessions.len() > usize::from(size);
        sessions.truncate(size.into());
        let next = sessions.last().filter(|_| more).map(|last| last.id);
        Ok(SessionPage { sessions, next })
    }

    /// Revokes a session, which must be the user's. Idempotent.
    ///
    /// # Errors
    /// [`AuthError::SessionNotFound`], [`AuthError::DatabaseUnavailable`].
    pub async fn revoke_session_of(
        &self,
        user_id: UserId,
        session_id: SessionId,
        context: &RequestContext,
    ) -> Result<Revoked<()>, AuthError> {
        // A session never changes its user, so this check need not be part of the transaction.
        let found = self.parts.store.find_session(session_id).await?;
        if found.is_none_or(|session| session.user_id != user_id) {
            return Err(AuthError::SessionNotFound);
        }
        // One call of a user at a time, whichever of the sessions it is about.
        let locks = &self.locks.users;
        let _lock = locks.lock(user_id, Writer::User, context.deadline).await?;
        let now = self.parts.clock.now();
        let (kind, writer) = (AuditKind::SessionRevoked, Writer::User);
        self.revoke_session(session_id, kind, writer, context, now)
            .await
    }

    /// Revokes, row by row, the sessions that ended by their epoch (see `store::sweeps`), of all users that wait for it.
    /// Other operations come in between. Returns how many rows that were.
    ///
    /// # Errors
    /// [`AuthError::DatabaseUnavailable`]; what is left to do stays noted in the database.
    pub async fn sweep_sessions(&self) -> Result<usize, AuthError> {
        let parts = &self.parts;
        let mut rows = 0;
        while let Some(sweep) = parts.store.claim_sweep(parts.clock.now()).await? {
            loop {
                let began = monotonic_now();
                let max_sessions = parts.settings.max_sessions_per_user;
                let (now, remember) = (parts.clock.now(), parts.remember());
                let batch = parts
                    .store
                    .sweep_sessions(sweep, max_sessions, now, remember);
                let batch = batch.await?;
                parts.revocations.learn(&batch.revocations);
                rows += batch.rows;
                if batch.is_last {
                    break;
                }
                sleep(monotonic_now().saturating_duration_since(began)).await;
            }
        }
        Ok(rows)
    }

    /// Completes when this replica has ended sessions whose rows a sweep has to revoke.
    pub async fn sweep_requested(&self) {
        self.parts.store.sweep_requested().await;
    }
}

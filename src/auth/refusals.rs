//! Which refused attempts are audited, and how they are written.

use super::{Auth, AuthError, RequestContext, refusal_log::MOST_BATCHES};
use crate::{
    domain::{SessionId, UserId},
    store::{AuditEvent, AuditKind},
};

impl Auth {
    /// Notes that an attempt was refused: failed or throttled, at Login or within a session.
    pub(super) fn note_refusal(
        &self,
        refusal: &AuthError,
        user_id: Option<UserId>,
        session_id: Option<SessionId>,
        context: &RequestContext,
    ) {
        let kind = match (refusal, session_id) {
            (AuthError::InvalidCredentials, None) => AuditKind::LoginFailed,
            (AuthError::InvalidCredentials, Some(_)) => AuditKind::PasswordCheckFailed,
            (AuthError::SecondFactorInvalid, _) => AuditKind::SecondFactorFailed,
            (AuthError::AccountThrottled { .. }, None) => AuditKind::LoginThrottled,
            (AuthError::AccountThrottled { .. }, Some(_)) => AuditKind::PasswordCheckThrottled,
            _ => return,
        };
        let event = AuditEvent {
            user_id,
            session_id,
            ..context.audit_event(kind, self.parts.clock.now())
        };
        self.refusals.add(event, 1);
    }

    /// Writes the refusals that wait, a batch by each statement. What cannot be written waits for the next time, as do most of
    /// those that come meanwhile.
    ///
    /// # Errors
    /// [`AuthError::DatabaseUnavailable`].
    pub async fn write_refusals(&self) -> Result<(), AuthError> {
        for _ in 0..MOST_BATCHES {
            let batch = self.refusals.take();
            let now = self.parts.clock.now();
            let dropped = RequestContext::default().audit_event(AuditKind::RefusalsDropped, now);
            let events = batch.to_events(dropped);
            if events.is_empty() {
                break;
            }
            if let Err(error) = self.parts.store.append_audit_events(&events).await {
                self.refusals.put_back(batch);
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// How many refusals were not written one by one since the start, because too many different ones waited.
    pub(super) fn dropped_refusals(&self) -> u64 {
        self.refusals.dropped()
    }
}

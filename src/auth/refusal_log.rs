//! Audit events of refused attempts: collected in memory and written by a background task, so that a refusal costs no
//! statement, takes the same time for every account, and cannot fill the audit trail faster than a bound.
//!
//! Attempts that are alike (kind, user, session, client address) and wait together become one event with their number. What
//! does not fit is counted. Decision 1301.

use std::{
    collections::{HashMap, hash_map::Entry},
    mem,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::Notify;

use super::{Auth, AuthError, RequestContext};
use crate::{
    domain::{SessionId, UserId},
    store::{AuditDetails, AuditEvent, AuditKind},
};

/// How many different refusals may wait: about 2 MB.
const CAPACITY: usize = 4_096;
/// From so many on they are written at once.
const ENOUGH: usize = 512;

/// Refused attempts that are not written yet.
#[derive(Default)]
pub(super) struct RefusalLog {
    waiting: Mutex<Waiting>,
    many: Notify,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    events: HashMap<Key, Repeated>,
    /// Refusals that did not fit since the last time.
    dropped: u64,
}

type Key = (AuditKind, Option<UserId>, Option<SessionId>, String);

struct Repeated {
    first: AuditEvent,
    count: u64,
}

impl RefusalLog {
    /// Adds a refusal. Never waits for anything but another short call of its kind.
    fn add(&self, first: AuditEvent, count: u64) {
        let key = (
            first.kind,
            first.user_id,
            first.session_id,
            first.client_ip.clone(),
        );
        let mut waiting = self.lock();
        let is_full = waiting.events.len() >= CAPACITY;
        match waiting.events.entry(key) {
            Entry::Occupied(mut same) => same.get_mut().count += count,
            Entry::Vacant(_) if is_full => {
                waiting.dropped += count;
                self.dropped.fetch_add(count, Relaxed);
            }
            Entry::Vacant(place) => {
                place.insert(Repeated { first, count });
            }
        }
        if waiting.events.len() >= ENOUGH {
            self.many.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Waiting {
        mem::take(&mut *self.lock())
    }

    /// Keeps what could not be written for the next time, as far as it fits.
    fn put_back(&self, waiting: Waiting) {
        for Repeated { first, count } in waiting.events.into_values() {
            self.add(first, count);
        }
        self.lock().dropped += waiting.dropped;
    }
}

impl Waiting {
    fn to_events(&self, context: &RequestContext, now: crate::clock::Timestamp) -> Vec<AuditEvent> {
        let refused = self
            .events
            .values()
            .map(|Repeated { first, count }| AuditEvent {
                details: AuditDetails::Repeated(*count),
                ..first.clone()
            });
        let dropped = (self.dropped > 0).then(|| AuditEvent {
            details: AuditDetails::Repeated(self.dropped),
            ..context.audit_event(AuditKind::RefusalsDropped, now)
        });
        refused.chain(dropped).collect()
    }
}

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

    /// Waits until there are many refusals to write.
    pub async fn many_refusals(&self) {
        self.refusals.many.notified().await;
    }

    /// Writes the refusals that wait. What cannot be written waits for the next time.
    ///
    /// # Errors
    /// [`AuthError::DatabaseUnavailable`].
    pub async fn write_refusals(&self) -> Result<(), AuthError> {
        let waiting = self.refusals.take();
        let events = waiting.to_events(&RequestContext::default(), self.parts.clock.now());
        if let Err(error) = self.parts.store.append_audit_events(&events).await {
            self.refusals.put_back(waiting);
            return Err(error.into());
        }
        Ok(())
    }

    /// How many refusals were not written one by one since the start, because too many different ones waited.
    pub(super) fn dropped_refusals(&self) -> u64 {
        self.refusals.dropped.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn refusal(address: usize) -> AuditEvent {
        let context = RequestContext {
            client_ip: address.to_string(),
            ..RequestContext::default()
        };
        context.audit_event(AuditKind::LoginFailed, Timestamp::default())
    }

    fn counts(events: &[AuditEvent]) -> u64 {
        let count = |event: &AuditEvent| match event.details {
            AuditDetails::Repeated(count) => count,
            _ => 0,
        };
        events.iter().map(count).sum()
    }

    #[test]
    fn refusals_that_are_alike_become_one_event_and_none_is_lost() {
        let log = RefusalLog::default();
        for number in 0..30 {
            log.add(refusal(number % 3), 1);
        }
        let waiting = log.take();
        let events = waiting.to_events(&RequestContext::default(), Timestamp::default());
        assert_eq!((events.len(), counts(&events)), (3, 30));
        log.add(refusal(0), 1);
        log.put_back(waiting);
        let events = log
            .take()
            .to_events(&RequestContext::default(), Timestamp::default());
        assert_eq!((events.len(), counts(&events)), (3, 31));
    }

    #[test]
    fn what_does_not_fit_is_counted_and_reported() {
        let log = RefusalLog::default();
        for number in 0..CAPACITY + 7 {
            log.add(refusal(number), 1);
        }
        let waiting = log.take();
        let events = waiting.to_events(&RequestContext::default(), Timestamp::default());
        let last = events.last().unwrap();
        assert_eq!(events.len(), CAPACITY + 1);
        assert_eq!(last.kind, AuditKind::RefusalsDropped);
        assert_eq!(last.details, AuditDetails::Repeated(7));
        assert_eq!(log.dropped.load(Relaxed), 7);
    }
}

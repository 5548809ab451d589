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
pub(super) struct Waiting {
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
    pub(super) fn add(&self, first: AuditEvent, count: u64) {
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

    /// Waits until there are many.
    pub(super) async fn many(&self) {
        self.many.notified().await;
    }

    /// How many were not kept one by one since the start, because too many different ones waited.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self) -> Waiting {
        mem::take(&mut *self.lock())
    }

    /// Keeps what could not be written for the next time, as far as it fits.
    pub(super) fn put_back(&self, waiting: Waiting) {
        for Repeated { first, count } in waiting.events.into_values() {
            self.add(first, count);
        }
        self.lock().dropped += waiting.dropped;
    }
}

impl Waiting {
    /// The events to write; `dropped` is the one about those that did not fit.
    pub(super) fn to_events(&self, dropped: AuditEvent) -> Vec<AuditEvent> {
        let refused = self
            .events
            .values()
            .map(|Repeated { first, count }| AuditEvent {
                details: AuditDetails::Repeated(*count),
                ..first.clone()
            });
        let dropped = (self.dropped > 0).then_some(AuditEvent {
            details: AuditDetails::Repeated(self.dropped),
            ..dropped
        });
        refused.chain(dropped).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn event(kind: AuditKind, client_ip: String) -> AuditEvent {
        AuditEvent {
            kind,
            actor_id: None,
            user_id: None,
            session_id: None,
            client_ip,
            request_id: String::new(),
            at: Timestamp::default(),
            details: AuditDetails::None,
        }
    }

    fn refusal(address: usize) -> AuditEvent {
        event(AuditKind::LoginFailed, address.to_string())
    }

    fn dropped() -> AuditEvent {
        event(AuditKind::RefusalsDropped, String::new())
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
        let events = waiting.to_events(dropped());
        assert_eq!((events.len(), counts(&events)), (3, 30));
        log.add(refusal(0), 1);
        log.put_back(waiting);
        let events = log.take().to_events(dropped());
        assert_eq!((events.len(), counts(&events)), (3, 31));
    }

    #[test]
    fn what_does_not_fit_is_counted_and_reported() {
        let log = RefusalLog::default();
        for number in 0..CAPACITY + 7 {
            log.add(refusal(number), 1);
        }
        let waiting = log.take();
        let events = waiting.to_events(dropped());
        let last = events.last().unwrap();
        assert_eq!(events.len(), CAPACITY + 1);
        assert_eq!(last.kind, AuditKind::RefusalsDropped);
        assert_eq!(last.details, AuditDetails::Repeated(7));
        assert_eq!(log.dropped.load(Relaxed), 7);
    }
}

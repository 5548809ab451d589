//! Audit events of refused attempts: collected in memory and written by a background task, so that a refusal costs no
//! statement, takes the same time for every account, and cannot fill the audit trail faster than a bound.
//!
//! Identical attempts (kind, user, session, client address) that wait together become one event with a count. Attempts
//! beyond the size of the buffer are only counted. Decision 1301.

use std::{
    collections::{HashMap, hash_map::Entry},
    mem,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::{
    domain::{SessionId, UserId},
    store::{AuditDetails, AuditEvent, AuditKind},
};

/// How many different refusals may wait: about 2 MB.
const CAPACITY: usize = 4_096;
/// How many are taken and written together.
const BATCH: usize = 200;
/// How many batches hold all that may wait.
pub(super) const MOST_BATCHES: usize = CAPACITY.div_ceil(BATCH);

/// Refused attempts that are not written yet.
#[derive(Default)]
pub(super) struct RefusalLog {
    waiting: Mutex<Waiting>,
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
    }

    /// How many were not kept one by one since the start, because too many different ones waited.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a batch, and the number of those that did not fit.
    pub(super) fn take(&self) -> Waiting {
        let mut waiting = self.lock();
        Waiting {
            events: waiting.events.extract_if(|_, _| true).take(BATCH).collect(),
            dropped: mem::take(&mut waiting.dropped),
        }
    }

    /// Keeps a batch that could not be written for the next time, as far as it fits.
    pub(super) fn put_back(&self, batch: Waiting) {
        for Repeated { first, count } in batch.events.into_values() {
            self.add(first, count);
        }
        self.lock().dropped += batch.dropped;
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
        let batch = log.take();
        let events = batch.to_events(dropped());
        assert_eq!((events.len(), counts(&events)), (3, 30));
        log.add(refusal(0), 1);
        log.put_back(batch);
        let events = log.take().to_events(dropped());
        assert_eq!((events.len(), counts(&events)), (3, 31));
    }

    #[test]
    fn refusals_beyond_the_size_of_the_buffer_are_counted_and_reported() {
        let log = RefusalLog::default();
        for number in 0..CAPACITY + 7 {
            log.add(refusal(number), 1);
        }
        let events = log.take().to_events(dropped());
        let last = events.last().unwrap();
        assert_eq!(events.len(), BATCH + 1);
        assert_eq!(last.kind, AuditKind::RefusalsDropped);
        assert_eq!(last.details, AuditDetails::Repeated(7));
        let others = (1..MOST_BATCHES).map(|_| log.take().to_events(dropped()));
        assert_eq!(others.flatten().count(), CAPACITY - BATCH);
        assert!(log.take().to_events(dropped()).is_empty());
        assert_eq!(log.dropped(), 7);
    }

    #[test]
    fn a_batch_that_could_not_be_written_never_makes_the_log_larger() {
        let log = RefusalLog::default();
        for number in 0..CAPACITY {
            log.add(refusal(number), 1);
        }
        let batch = log.take();
        // The places of the batch are taken meanwhile, all but three.
        for number in 0..BATCH - 3 {
            log.add(refusal(CAPACITY + number), 1);
        }
        log.put_back(batch);
        assert_eq!(log.lock().events.len(), CAPACITY);
        assert_eq!(log.dropped(), u64::try_from(BATCH - 3).unwrap());
        let all = (0..MOST_BATCHES).flat_map(|_| log.take().to_events(dropped()));
        let written = counts(&all.collect::<Vec<_>>());
        assert_eq!(written, u64::try_from(CAPACITY + BATCH - 3).unwrap());
    }
}

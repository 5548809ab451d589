//! Applies one stream of the feed, message by message.

use std::time::{Duration, Instant};

use super::message;
use crate::{
    clock::UnixMillis,
    cursor::Cursor,
    pb::{self, watch_revocations_response::Event},
    revocations::{Revocation, Revocations},
    shared::Shared,
    state::FeedStatus,
};

/// The most revocations that a snapshot may have; beyond it the peer cannot be a Countersign server. They need some 200 MB.
const MOST_REVOCATIONS: usize = 4_000_000;

/// How often expired revocations are dropped.
const FORGET_INTERVAL: Duration = Duration::from_secs(10);

/// The stream cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unusable(pub(super) &'static str);

/// The state of one stream.
pub(super) struct Receiver<'a> {
    shared: &'a Shared,
    /// The cursor that the stream was resumed from, if any. Only the first heartbeat shows whether the server knows its epoch.
    resumed_from: Option<Cursor>,
    /// What the snapshot holds, until it is known whether it is a whole one.
    snapshot: Option<Vec<Revocation>>,
    is_complete: bool,
    has_keys: bool,
    forgot_at: Instant,
}

impl<'a> Receiver<'a> {
    pub(super) fn new(shared: &'a Shared, resumed_from: Option<Cursor>) -> Self {
        Self {
            shared,
            resumed_from,
            snapshot: Some(Vec::new()),
            is_complete: false,
            has_keys: false,
            forgot_at: shared.clock.monotonic(),
        }
    }

    /// Whether the snapshot has been received.
    pub(super) const fn is_complete(&self) -> bool {
        self.is_complete
    }

    pub(super) fn apply(&mut self, message: pb::WatchRevocationsResponse) -> Result<(), Unusable> {
        match message.event {
            Some(Event::Revocations(batch)) => self.learn(&batch),
            Some(Event::Jwks(jwks)) => {
                self.take_keys(&jwks);
                Ok(())
            }
            Some(Event::SnapshotComplete(_)) => self.complete(),
            Some(Event::Heartbeat(heartbeat)) => {
                self.note(&heartbeat);
                Ok(())
            }
            // An event of a newer server.
            None => Ok(()),
        }
    }

    fn learn(&mut self, batch: &pb::RevocationBatch) -> Result<(), Unusable> {
        let (revocations, malformed) = message::revocations(batch);
        self.shared.count_malformed(malformed);
        // A stream that was resumed adds to what is known; the snapshot of a new one replaces it, all at once.
        if self.is_complete || self.resumed_from.is_some() {
            self.shared.local.learn(&revocations);
        }
        if let Some(snapshot) = &mut self.snapshot {
            if snapshot.len() + revocations.len() > MOST_REVOCATIONS {
                return Err(Unusable("the snapshot has too many revocations"));
            }
            snapshot.extend(revocations);
        }
        Ok(())
    }

    fn take_keys(&mut self, jwks: &pb::Jwks) {
        let is_usable = self.shared.local.set_jwks(&jwks.jwks_json).is_ok();
        self.has_keys |= is_usable;
        // After a document that cannot be read, a key that is not known may still be good.
        self.shared.progress.set_keys_current(is_usable);
        self.shared.count_malformed(usize::from(!is_usable));
    }

    fn complete(&mut self) -> Result<(), Unusable> {
        if !self.has_keys {
            return Err(Unusable("the snapshot has no keys"));
        }
        if self.resumed_from.is_none()
            && let Some(snapshot) = self.snapshot.take()
        {
            let all = Revocations::of(&snapshot);
            self.shared.local.replace_revocations(all);
        }
        if !self.is_complete {
            self.is_complete = true;
            self.shared.progress.snapshot_complete();
            self.shared.state.send_modify(|state| {
                state.is_ready = true;
                state.connections += 1;
            });
            self.shared.set_status(FeedStatus::Current);
        }
        Ok(())
    }

    fn note(&mut self, heartbeat: &pb::Heartbeat) {
        if !self.is_complete {
            return;
        }
        let cursor: Option<Cursor> = heartbeat.cursor.parse().ok();
        let as_of = heartbeat.revocation_as_of.and_then(UnixMillis::from_proto);
        self.shared
            .count_malformed(usize::from(cursor.is_none()) + usize::from(as_of.is_none()));
        let is_new_epoch = cursor
            .as_ref()
            .is_some_and(|cursor| self.begins_epoch(cursor));
        if let Some(as_of) = as_of {
            self.shared.progress.heartbeat(as_of, is_new_epoch);
        }
        let as_of = self.shared.progress.as_of();
        self.shared.state.send_modify(|state| {
            state.as_of = as_of.map(UnixMillis::to_system_time);
            if cursor.is_some() {
                state.cursor = cursor;
            }
        });
        self.forget_expired();
    }

    /// Whether the database was restored since the cursor was given out. Then the server has sent a whole snapshot. It is added to what
    /// is known: the database may have lost revocations, and their tokens stay revoked here until they expire.
    fn begins_epoch(&mut self, cursor: &Cursor) -> bool {
        let Some(before) = self.resumed_from.take() else {
            return false;
        };
        self.snapshot = None;
        !cursor.is_of_epoch_of(&before)
    }

    fn forget_expired(&mut self) {
        let Shared { local, clock, .. } = self.shared;
        let now = clock.monotonic();
        if now.saturating_duration_since(self.forgot_at) >= FORGET_INTERVAL {
            self.forgot_at = now;
            local.forget_expired(clock.now());
        }
    }
}

#[cfg(test)]
#[path = "receiver_tests.rs"]
mod tests;

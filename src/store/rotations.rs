//! Rotations of sessions: those that come while others are under way go on together, in one UPDATE.
//!
//! What a rotation costs is the round trip and the commit, which waits for the disk; how many rows it moves hardly
//! matters. Nobody is kept waiting for company: a session that comes alone is rotated at once.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use diesel::{prelude::*, sql_types::Text};
use diesel_async::RunQueryDsl;
use tokio::{sync::oneshot, time};

use super::{
    OPERATION_TIMEOUT, Store, StoreError,
    prepared::Prepared,
    schema::{sessions, users},
    users::parse_user_id,
    write,
};
use crate::{
    clock::Timestamp,
    domain::{Roles, SessionId, UserId},
};

/// Batches under way at once: while one waits for the disk, the next is being worked on.
const UNDER_WAY: usize = 2;

/// Rotations in one batch at most.
const BATCH: usize = 64;

/// A session's step from one generation to the next.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    /// The session.
    pub session_id: SessionId,
    /// The generation that it has to stand at.
    pub generation: i32,
    /// When it is asked for.
    pub now: Timestamp,
    /// When the next token stops being good if it is not used.
    pub idle_expires_at: Timestamp,
}

/// What a rotation needs to know to issue the next pair.
#[derive(Clone, Debug)]
pub struct Rotated {
    /// Whose session it is.
    pub user_id: UserId,
    /// The roles the user has now.
    pub roles: Roles,
    /// When the session ends, however busy it is.
    pub absolute_expires_at: Timestamp,
}

type Outcome = Result<Option<Rotated>, StoreError>;

/// A rotation and who waits for it.
struct Waiting {
    rotation: Rotation,
    reply: oneshot::Sender<Outcome>,
}

/// The rotations that wait for their batch.
#[derive(Default)]
pub(super) struct Rotations(Mutex<Line>);

#[derive(Default)]
struct Line {
    waiting: Vec<Waiting>,
    under_way: usize,
}

impl Rotations {
    /// Lines a rotation up. Whether somebody has to go and fetch it.
    fn line_up(&self, waiting: Waiting) -> bool {
        let mut line = self.lock();
        line.waiting.push(waiting);
        let is_needed = line.under_way < UNDER_WAY;
        line.under_way += usize::from(is_needed);
        is_needed
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of those who fetch batches. It counts as under way until it finds the line empty, or dies.
struct Carrier<'a> {
    rotations: &'a Rotations,
    is_done: bool,
}

impl Carrier<'_> {
    /// The next batch, of those who still wait; `None` when nobody does.
    fn next(&mut self) -> Option<Vec<Waiting>> {
        let mut line = self.rotations.lock();
        line.waiting.retain(|waiting| !waiting.reply.is_closed());
        if line.waiting.is_empty() {
            line.under_way -= 1;
            self.is_done = true;
            return None;
        }
        let length = line.waiting.len().min(BATCH);
        Some(line.waiting.drain(..length).collect())
    }
}

impl Drop for Carrier<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.rotations.lock().under_way -= 1;
        }
    }
}

impl Store {
    /// Rotates a live session from its generation to the next by a conditional UPDATE. `None` when the session
    /// does not stand at that generation or is not live.
    pub async fn rotate_session(&self, rotation: Rotation) -> Outcome {
        self.check_available()?;
        if rotation.generation == i32::MAX {
            return Ok(None);
        }
        let (reply, outcome) = oneshot::channel();
        if self.rotations.line_up(Waiting { rotation, reply }) {
            let store = self.clone();
            tokio::spawn(async move { store.carry_rotations().await });
        }
        let late = || StoreError::Unavailable("no answer in time".to_owned());
        time::timeout(OPERATION_TIMEOUT, outcome)
            .await
            .map_err(|_| late())?
            .map_err(|_| StoreError::Unavailable("the batch was cut off".to_owned()))?
    }

    async fn carry_rotations(&self) {
        let mut carrier = Carrier {
            rotations: &self.rotations,
            is_done: false,
        };
        while let Some(batch) = carrier.next() {
            let rotations: Vec<_> = batch.iter().map(|waiting| waiting.rotation).collect();
            let mut outcome = self.rotate_together(&rotations).await;
            for Waiting { rotation, reply } in batch {
                let own = match &mut outcome {
                    // Two may come with the same token: the first has the row, the other has to look again.
                    Ok(rows) => rows.remove(&rotation.stand()).map(RotatedRow::read),
                    Err(error) => Some(Err(error.clone())),
                };
                // Whoever has stopped waiting comes again, within the time of grace.
                let _ = reply.send(own.transpose());
            }
        }
    }

    /// One UPDATE for all; the rows to which it applied, by where they stood. The times differ by less than a
    /// batch takes: the latest is taken for all.
    async fn rotate_together(
        &self,
        rotations: &[Rotation],
    ) -> Result<HashMap<String, RotatedRow>, StoreError> {
        let latest = |time: fn(&Rotation) -> Timestamp| rotations.iter().map(time).max();
        let now = latest(|rotation| rotation.now).unwrap_or_default();
        let idle_expires_at = latest(|rotation| rotation.idle_expires_at).unwrap_or_default();
        let ids = rotations
            .iter()
            .map(|rotation| rotation.session_id.to_string());
        let stands = rotations.iter().map(Rotation::stand);
        // The ids find the rows by their index; then each has to stand at the generation that goes with its id.
        let stand = sessions::id
            .concat(":")
            .concat(sessions::generation.cast::<Text>());
        let live_user = users::table
            .filter(users::id.eq(sessions::user_id))
            .filter(users::disabled_at.is_null());
        let live_sessions = sessions::table
            .filter(sessions::id.eq_any(ids.collect::<Vec<_>>()))
            .filter(stand.eq_any(stands.collect::<Vec<_>>()))
            .filter(sessions::revoked_at.is_null())
            .filter(sessions::idle_expires_at.gt(now.micros()))
            .filter(sessions::absolute_expires_at.gt(now.micros()))
            .filter(diesel::dsl::exists(live_user));
        let current_roles = users::table
            .filter(users::id.eq(sessions::user_id))
            .select(users::roles)
            .single_value();
        let rows: Vec<RotatedRow> = write!(self, |conn| {
            let update = diesel::update(live_sessions)
                .set((
                    sessions::generation.eq(sessions::generation + 1),
                    sessions::rotated_at.eq(now.micros()),
                    sessions::idle_expires_at.eq(idle_expires_at.micros()),
                ))
                .returning((
                    sessions::id,
                    sessions::generation,
                    sessions::user_id,
                    sessions::absolute_expires_at,
                    current_roles,
                ));
            Ok(Prepared(update).load(conn).await?)
        })?;
        let by_stand = |row: RotatedRow| (stand_of(&row.id, row.generation - 1), row);
        Ok(rows.into_iter().map(by_stand).collect())
    }
}

impl Rotation {
    /// Where the session has to stand: its id and its generation.
    fn stand(&self) -> String {
        stand_of(&self.session_id.to_string(), self.generation)
    }
}

fn stand_of(id: &str, generation: i32) -> String {
    format!("{id}:{generation}")
}

/// A session as it is after its rotation.
#[derive(Queryable)]
struct RotatedRow {
    id: String,
    generation: i32,
    user_id: String,
    absolute_expires_at: i64,
    roles: Option<String>,
}

impl RotatedRow {
    fn read(self) -> Result<Rotated, StoreError> {
        Ok(Rotated {
            user_id: parse_user_id(&self.user_id)?,
            roles: Roles::from_stored(self.roles.as_deref().unwrap_or_default()),
            absolute_expires_at: Timestamp::from_micros(self.absolute_expires_at),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting() -> (Waiting, oneshot::Receiver<Outcome>) {
        let now = Timestamp::from_seconds(1_795_478_400);
        let (reply, outcome) = oneshot::channel();
        let rotation = Rotation {
            session_id: SessionId::generate(now),
            generation: 0,
            now,
            idle_expires_at: now,
        };
        (Waiting { rotation, reply }, outcome)
    }

    fn carrier(rotations: &Rotations) -> Carrier<'_> {
        Carrier {
            rotations,
            is_done: false,
        }
    }

    #[test]
    fn who_comes_while_all_are_under_way_goes_with_the_next_batch() {
        let rotations = Rotations::default();
        let mut outcomes = Vec::new();
        let mut come = || {
            let (waiting, outcome) = waiting();
            outcomes.push(outcome);
            rotations.line_up(waiting)
        };
        let mut carriers = Vec::new();
        for _ in 0..UNDER_WAY {
            assert!(come(), "nobody would fetch it");
            let mut carrier = carrier(&rotations);
            assert_eq!(carrier.next().unwrap().len(), 1);
            carriers.push(carrier);
        }
        for _ in 0..=BATCH {
            assert!(!come());
        }
        let mut carrier = carriers.remove(0);
        assert_eq!(carrier.next().unwrap().len(), BATCH);
        assert_eq!(carrier.next().unwrap().len(), 1);
        assert!(carrier.next().is_none());
        assert!(come(), "a carrier that went home is still counted");
    }

    #[test]
    fn who_has_stopped_waiting_is_left_out() {
        let rotations = Rotations::default();
        let (first, outcome) = waiting();
        assert!(rotations.line_up(first));
        drop(outcome);
        assert!(carrier(&rotations).next().is_none());
    }

    #[test]
    fn a_carrier_that_dies_makes_room_for_another() {
        let rotations = Rotations::default();
        let (first, _first) = waiting();
        assert!(rotations.line_up(first));
        drop(carrier(&rotations));
        for _ in 0..UNDER_WAY {
            let (next, _) = waiting();
            assert!(rotations.line_up(next));
        }
    }
}

//! Rotations of sessions: those that come while others are under way go on together, in one UPDATE.
//!
//! What a rotation costs is the round trip and the commit, which waits for the disk; how many rows it moves hardly
//! matters. Nobody is kept waiting for company: a session that comes alone is rotated at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use diesel::{prelude::*, sql_types::Text};
use diesel_async::RunQueryDsl;
use futures_util::future::join_all;
use tokio::{sync::oneshot, time};

use super::{
    OPERATION_TIMEOUT, Store, StoreError,
    epochs::session_epoch,
    ids::parse_user_id,
    prepared::Prepared,
    schema::{sessions, users},
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
struct Carrier {
    rotations: Arc<Rotations>,
    is_done: bool,
}

impl Carrier {
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

impl Drop for Carrier {
    fn drop(&mut self) {
        if !self.is_done {
            self.rotations.lock().under_way -= 1;
        }
    }
}

/// The UPDATE, for one session or for many: moves those on that are live, and returns their rows. A macro, because
/// diesel's queries are of a different type each.
macro_rules! move_on {
    ($store:expr, $sessions:expr, $now:expr, $idle_expires_at:expr, $next_generation:expr) => {{
        let (now, idle_expires_at): (Timestamp, Timestamp) = ($now, $idle_expires_at);
        let live_user = users::table
            .filter(users::id.eq(sessions::user_id))
            .filter(users::session_epoch.le(session_epoch()))
            .filter(users::disabled_at.is_null());
        let live_sessions = $sessions
            .filter(sessions::revoked_at.is_null())
            .filter(sessions::idle_expires_at.gt(now.micros()))
            .filter(sessions::absolute_expires_at.gt(now.micros()))
            .filter(diesel::dsl::exists(live_user));
        let current_roles = users::table
            .filter(users::id.eq(sessions::user_id))
            .select(users::roles)
            .single_value();
        let rows: Result<Vec<RotatedRow>, StoreError> = write!($store, |conn| {
            let update = diesel::update(live_sessions)
                .set((
                    sessions::generation.eq($next_generation),
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
        });
        rows
    }};
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
            let (store, rotations) = (self.clone(), Arc::clone(&self.rotations));
            let is_done = false;
            let carrier = Carrier { rotations, is_done };
            tokio::spawn(async move { store.carry_rotations(carrier).await });
        }
        let late = || StoreError::Busy("no answer in time".to_owned());
        time::timeout(OPERATION_TIMEOUT, outcome)
            .await
            .map_err(|_| late())?
            .map_err(|_| StoreError::Unavailable("the batch was cut off".to_owned()))?
    }

    /// Rotates a live session from a generation that is ahead of the stored one. `None` when the session no longer
    /// stands at `stored_generation` or is not live.
    pub async fn catch_up_session(&self, rotation: Rotation, stored_generation: i32) -> Outcome {
        let Some(next) = rotation.generation.checked_add(1) else {
            return Ok(None);
        };
        let behind = sessions::table
            .filter(sessions::id.eq(rotation.session_id.to_string()))
            .filter(sessions::generation.eq(stored_generation));
        let rows = move_on!(self, behind, rotation.now, rotation.idle_expires_at, next)?;
        rows.into_iter().next().map(RotatedRow::read).transpose()
    }

    async fn carry_rotations(&self, mut carrier: Carrier) {
        while let Some(batch) = carrier.next() {
            let rows = match batch.as_slice() {
                [_] => None,
                many => self.rotate_together(many).await.ok(),
            };
            match rows {
                Some(mut rows) => {
                    for Waiting { rotation, reply } in batch {
                        // Two may come with the same token: the first has the row, the other looks again.
                        let row = rows.remove(&rotation.stand());
                        // Whoever has stopped waiting comes again, within the time of grace.
                        let _ = reply.send(row.map(RotatedRow::read).transpose());
                    }
                }
                // What failed may be one of many: a row that another transaction holds, say.
                None => {
                    join_all(batch.into_iter().map(|waiting| self.rotate_for(waiting))).await;
                }
            }
        }
    }

    /// Rotates one session for one who still waits.
    async fn rotate_for(&self, waiting: Waiting) {
        let Waiting { rotation, reply } = waiting;
        if !reply.is_closed() {
            let _ = reply.send(self.rotate_alone(rotation).await);
        }
    }

    async fn rotate_alone(&self, rotation: Rotation) -> Outcome {
        let claimed = sessions::table
            .filter(sessions::id.eq(rotation.session_id.to_string()))
            .filter(sessions::generation.eq(rotation.generation));
        let next = sessions::generation + 1;
        let rows = move_on!(self, claimed, rotation.now, rotation.idle_expires_at, next)?;
        rows.into_iter().next().map(RotatedRow::read).transpose()
    }

    /// Rotates all at once; the rows of those to which it applied, by where they stood. For all of them the
    /// latest of their times is taken: they differ by the time spent in the line.
    async fn rotate_together(
        &self,
        batch: &[Waiting],
    ) -> Result<HashMap<String, RotatedRow>, StoreError> {
        let rotations = || batch.iter().map(|waiting| waiting.rotation);
        let latest = |time: fn(Rotation) -> Timestamp| rotations().map(time).max();
        let now = latest(|rotation| rotation.now).unwrap_or_default();
        let idle_expires_at = latest(|rotation| rotation.idle_expires_at).unwrap_or_default();
        let ids = rotations().map(|rotation| rotation.session_id.to_string());
        let stands = rotations().map(|rotation| rotation.stand());
        // The ids find the rows by their index; then each has to stand at the generation that goes with its id.
        let stand = sessions::id
            .concat(":")
            .concat(sessions::generation.cast::<Text>());
        let claimed = sessions::table
            .filter(sessions::id.eq_any(padded(ids)))
            .filter(stand.eq_any(padded(stands)));
        let next = sessions::generation + 1;
        let rows = move_on!(self, claimed, now, idle_expires_at, next)?;
        let by_stand = |row: RotatedRow| (stand_of(&row.id, row.generation - 1), row);
        Ok(rows.into_iter().map(by_stand).collect())
    }
}

/// The values, the last of them repeated up to a power of two: SQLite has a parameter for each, and so a statement
/// for each length.
fn padded(values: impl Iterator<Item = String>) -> Vec<String> {
    let mut values: Vec<_> = values.collect();
    if let Some(last) = values.last().cloned() {
        values.resize(values.len().next_power_of_two(), last);
    }
    values
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

    fn carrier(rotations: &Arc<Rotations>) -> Carrier {
        Carrier {
            rotations: Arc::clone(rotations),
            is_done: false,
        }
    }

    #[test]
    fn who_comes_while_all_are_under_way_goes_with_the_next_batch() {
        let rotations = Arc::new(Rotations::default());
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
    fn there_are_few_lengths_of_lists() {
        let length = |count| padded((0..count).map(|n| n.to_string())).len();
        assert_eq!([0, 1, 2, 3, 33, 64].map(length), [0, 1, 2, 4, 64, 64]);
        assert_eq!(
            padded(["a", "b", "c"].map(str::to_owned).into_iter())[3],
            "c"
        );
    }

    #[test]
    fn who_has_stopped_waiting_is_left_out() {
        let rotations = Arc::new(Rotations::default());
        let (first, outcome) = waiting();
        assert!(rotations.line_up(first));
        drop(outcome);
        assert!(carrier(&rotations).next().is_none());
    }

    #[test]
    fn a_carrier_that_dies_makes_room_for_another() {
        let rotations = Arc::new(Rotations::default());
        let (first, _first) = waiting();
        assert!(rotations.line_up(first));
        drop(carrier(&rotations));
        for _ in 0..UNDER_WAY {
            let (next, _) = waiting();
            assert!(rotations.line_up(next));
        }
    }
}

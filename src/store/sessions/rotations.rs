//! Rotates sessions: one conditional UPDATE for one session, or for all sessions of a batch.

use std::collections::HashMap;

use diesel::{prelude::*, sql_types::Text};
use diesel_async::RunQueryDsl;

use crate::{
    clock::Timestamp,
    domain::{Roles, SessionClaims},
    store::{
        Store, StoreError,
        connections::shared_clock::DatabaseTime,
        ids::parse_user_id,
        prepared::Prepared,
        schema::{sessions, users},
        sessions::{
            epochs::{coalesce, session_epoch},
            rotation_queue::{Rotated, Rotation},
        },
        write,
    },
};

/// The UPDATE: rotates those of `$sessions` that are live, and returns their rows. A macro, because diesel's queries for
/// one session and for many are of different types.
macro_rules! rotate_live {
    ($store:expr, $sessions:expr, $rotation:expr, $next_generation:expr) => {{
        let rows: Result<Vec<RotatedRow>, StoreError> = write!($store, |conn| {
            let now = $rotation.clock.now();
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
            let update = diesel::update(live_sessions)
                .set((
                    sessions::generation.eq($next_generation),
                    sessions::rotated_at.eq(now.micros()),
                    sessions::rotated_by_database_at.eq(DatabaseTime::beside(&$rotation.clock)),
                    sessions::idle_expires_at.eq((now + $rotation.idle_ttl).micros()),
                ))
                .returning((
                    sessions::id,
                    sessions::generation,
                    sessions::user_id,
                    sessions::idle_expires_at,
                    sessions::absolute_expires_at,
                    current_roles,
                    (
                        coalesce(sessions::authenticated_at, sessions::created_at),
                        sessions::authentication_methods,
                        sessions::audiences,
                        session_epoch(),
                    ),
                ));
            Ok(Prepared(update).load(conn).await?)
        });
        rows
    }};
}

impl Store {
    /// Rotates a live session from an earlier generation than that of the token, which the database has lost. `None` when
    /// the session is no longer at `stored_generation` or not live.
    ///
    /// # Errors
    /// The database fails.
    pub async fn catch_up_session(
        &self,
        rotation: &Rotation,
        stored_generation: i32,
    ) -> Result<Option<Rotated>, StoreError> {
        let Some(next_generation) = rotation.generation.checked_add(1) else {
            return Ok(None);
        };
        let session = sessions::table
            .filter(sessions::id.eq(rotation.session_id.to_string()))
            .filter(sessions::generation.eq(stored_generation));
        let rows = rotate_live!(self, session, rotation, next_generation)?;
        rows.into_iter().next().map(Rotated::try_from).transpose()
    }

    /// Rotates one live session from the generation of the token to the next. `None` when the session is at another
    /// generation or not live.
    pub(in crate::store) async fn rotate_one(
        &self,
        rotation: &Rotation,
    ) -> Result<Option<Rotated>, StoreError> {
        self.catch_up_session(rotation, rotation.generation).await
    }

    /// Rotates the live ones of many sessions by one statement, each from the generation of its token.
    pub(in crate::store) async fn rotate_many(
        &self,
        rotations: &[Rotation],
    ) -> Result<RotatedSessions, StoreError> {
        let Some(any) = rotations.first() else {
            return Ok(RotatedSessions::default());
        };
        let ids = rotations
            .iter()
            .map(|rotation| rotation.session_id.to_string());
        let pairs = rotations.iter().map(expected_of);
        // The ids find the rows by their index; then each has to be at the generation that belongs to its id.
        let stored = sessions::id
            .concat(":")
            .concat(sessions::generation.cast::<Text>());
        let claimed = sessions::table
            .filter(sessions::id.eq_any(padded(ids)))
            .filter(stored.eq_any(padded(pairs)));
        let rows = rotate_live!(self, claimed, any, sessions::generation + 1)?;
        let by_expected = |row: RotatedRow| (expected(&row.id, row.generation - 1), row);
        Ok(RotatedSessions(rows.into_iter().map(by_expected).collect()))
    }
}

/// The sessions to which a batch applied.
#[derive(Default)]
pub(in crate::store) struct RotatedSessions(HashMap<String, RotatedRow>);

impl RotatedSessions {
    /// The result of one rotation of the batch. Of two with the same token only the first gets the session: the second
    /// repeats its result, as a retry does.
    pub(in crate::store) fn take(
        &mut self,
        rotation: &Rotation,
    ) -> Result<Option<Rotated>, StoreError> {
        let row = self.0.remove(&expected_of(rotation));
        row.map(Rotated::try_from).transpose()
    }
}

/// The session and the generation at which it has to be.
fn expected_of(rotation: &Rotation) -> String {
    expected(&rotation.session_id.to_string(), rotation.generation)
}

fn expected(id: &str, generation: i32) -> String {
    format!("{id}:{generation}")
}

/// The values, the last of them repeated up to a power of two: SQLite has a parameter for each value, and so a prepared
/// statement for each length.
fn padded(values: impl Iterator<Item = String>) -> Vec<String> {
    let mut values: Vec<_> = values.collect();
    if let Some(last) = values.last().cloned() {
        values.resize(values.len().next_power_of_two(), last);
    }
    values
}

/// A session as it is after its rotation.
#[derive(Queryable)]
struct RotatedRow {
    id: String,
    generation: i32,
    user_id: String,
    idle_expires_at: i64,
    absolute_expires_at: i64,
    roles: Option<String>,
    /// When and how the user was authenticated, the audiences, and the epoch.
    claims: (i64, Option<String>, Option<String>, i64),
}

impl TryFrom<RotatedRow> for Rotated {
    type Error = StoreError;

    fn try_from(row: RotatedRow) -> Result<Self, StoreError> {
        let expires_at = row.idle_expires_at.min(row.absolute_expires_at);
        let (authenticated_at, methods, audiences, epoch) = row.claims;
        Ok(Self {
            claims: SessionClaims::from_stored(
                Timestamp::from_micros(authenticated_at),
                methods.as_deref(),
                audiences.as_deref(),
                Timestamp::from_micros(epoch),
            ),
            user_id: parse_user_id(&row.user_id)?,
            roles: Roles::from_stored(row.roles.as_deref().unwrap_or_default()),
            expires_at: Timestamp::from_micros(expires_at),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::padded;

    #[test]
    fn lists_have_few_different_lengths() {
        let length = |count: usize| padded((0..count).map(|n| n.to_string())).len();
        assert_eq!([0, 1, 2, 3, 33, 64].map(length), [0, 1, 2, 4, 64, 64]);
        let values = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(padded(values.into_iter())[3], "c");
    }
}

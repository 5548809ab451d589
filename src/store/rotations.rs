//! Rotates sessions: one conditional UPDATE for each refresh.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    Store, StoreError,
    epochs::session_epoch,
    ids::parse_user_id,
    prepared::Prepared,
    schema::{sessions, users},
    write,
};
use crate::{
    clock::{Clock, Timestamp},
    domain::{Roles, SessionId, UserId},
};

/// A session's step to the generation after that of a presented token.
#[derive(Clone, Copy)]
pub struct Rotation<'a> {
    /// The session.
    pub session_id: SessionId,
    /// The generation of the token.
    pub generation: i32,
    /// How long the next token is good if it is not used.
    pub idle_ttl: Duration,
    /// The time at which the statement is sent is that of the rotation, not the time of the request: waiting for a
    /// connection must not shorten the grace.
    pub clock: &'a Clock,
}

/// What a rotation needs to know to issue the next pair.
#[derive(Clone, Debug)]
pub struct Rotated {
    /// Whose session it is.
    pub user_id: UserId,
    /// The roles the user has now.
    pub roles: Roles,
    /// When the session ends if it is not refreshed before.
    pub expires_at: Timestamp,
}

impl Store {
    /// Rotates a live session from the generation of the token to the next. `None` when the session is at another
    /// generation or not live.
    ///
    /// # Errors
    /// The database fails.
    pub async fn rotate_session(
        &self,
        rotation: Rotation<'_>,
    ) -> Result<Option<Rotated>, StoreError> {
        self.rotate_from(rotation.generation, rotation).await
    }

    /// Rotates a live session from an earlier generation than that of the token, which the database has lost. `None` when
    /// the session is no longer at `stored_generation` or not live.
    ///
    /// # Errors
    /// The database fails.
    pub async fn catch_up_session(
        &self,
        rotation: Rotation<'_>,
        stored_generation: i32,
    ) -> Result<Option<Rotated>, StoreError> {
        self.rotate_from(stored_generation, rotation).await
    }

    async fn rotate_from(
        &self,
        stored_generation: i32,
        rotation: Rotation<'_>,
    ) -> Result<Option<Rotated>, StoreError> {
        let Some(next_generation) = rotation.generation.checked_add(1) else {
            return Ok(None);
        };
        let rotated: Option<RotatedRow> = write!(self, |conn| {
            let now = rotation.clock.now();
            let live_user = users::table
                .filter(users::id.eq(sessions::user_id))
                .filter(users::session_epoch.le(session_epoch()))
                .filter(users::disabled_at.is_null());
            let live_session = sessions::table
                .filter(sessions::id.eq(rotation.session_id.to_string()))
                .filter(sessions::generation.eq(stored_generation))
                .filter(sessions::revoked_at.is_null())
                .filter(sessions::idle_expires_at.gt(now.micros()))
                .filter(sessions::absolute_expires_at.gt(now.micros()))
                .filter(diesel::dsl::exists(live_user));
            let current_roles = users::table
                .filter(users::id.eq(sessions::user_id))
                .select(users::roles)
                .single_value();
            let update = diesel::update(live_session)
                .set((
                    sessions::generation.eq(next_generation),
                    sessions::rotated_at.eq(now.micros()),
                    sessions::idle_expires_at.eq((now + rotation.idle_ttl).micros()),
                ))
                .returning((
                    sessions::user_id,
                    sessions::idle_expires_at,
                    sessions::absolute_expires_at,
                    current_roles,
                ));
            Ok(Prepared(update).get_result(conn).await.optional()?)
        })?;
        rotated.map(Rotated::try_from).transpose()
    }
}

/// A session as it is after its rotation.
#[derive(Queryable)]
struct RotatedRow {
    user_id: String,
    idle_expires_at: i64,
    absolute_expires_at: i64,
    roles: Option<String>,
}

impl TryFrom<RotatedRow> for Rotated {
    type Error = StoreError;

    fn try_from(row: RotatedRow) -> Result<Self, StoreError> {
        let expires_at = row.idle_expires_at.min(row.absolute_expires_at);
        Ok(Self {
            user_id: parse_user_id(&row.user_id)?,
            roles: Roles::from_stored(row.roles.as_deref().unwrap_or_default()),
            expires_at: Timestamp::from_micros(expires_at),
        })
    }
}

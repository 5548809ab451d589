//! What is done to a user from above: barred, let in again, thrown out of every session, given roles. Each
//! is one transaction that begins by locking the user's row, as a login does, so that no session slips
//! through between the two.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};

use super::{
    AuditEvent, Store, StoreError,
    audit::AuditEventRow,
    revocations::append_revocation,
    schema::{audit_events, revocations, sessions, users},
    write,
};
use crate::{
    clock::Timestamp,
    domain::{PositionedRevocation, Revocation, RevokedSubject, Roles, UserId},
};

/// Sessions that were ended together.
#[derive(Clone, Copy, Debug)]
pub struct EndedSessions {
    /// What tells every replica.
    pub revocation: PositionedRevocation,
    /// How many of them could still have been refreshed.
    pub count: usize,
}

/// When a session last issued a token, and when it would have ended.
type SessionTimes = (i64, i64, i64);

/// Ends every session of a user; the rest of a transaction that holds the lock on the user's row.
macro_rules! end_sessions {
    ($conn:expr, $id:expr, $now:expr, $remember:expr, $event:expr) => {{
        let open = sessions::table
            .filter(sessions::user_id.eq($id.to_string()))
            .filter(sessions::revoked_at.is_null());
        let ended: Vec<SessionTimes> = diesel::update(open)
            .set(sessions::revoked_at.eq($now.micros()))
            .returning((
                sessions::rotated_at,
                sessions::idle_expires_at,
                sessions::absolute_expires_at,
            ))
            .get_results($conn)
            .await?;
        diesel::insert_into(audit_events::table)
            .values($event)
            .execute($conn)
            .await?;
        let revocation = revocation_of($id, &ended, $now, $remember);
        EndedSessions {
            revocation: append_revocation!($conn, revocation),
            count: ended.iter().filter(|times| was_live(times, $now)).count(),
        }
    }};
}

impl Store {
    /// Bars a user and ends every session. `None` when the user is barred already, or there is none.
    ///
    /// `remember` is how long the last access token may live, counted from its session's last rotation.
    pub async fn disable_user(
        &self,
        id: UserId,
        now: Timestamp,
        remember: Duration,
        event: &AuditEvent,
    ) -> Result<Option<EndedSessions>, StoreError> {
        let event = of_user(event, id);
        write!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                let enabled = users::table
                    .find(id.to_string())
                    .filter(users::disabled_at.is_null());
                let changed = diesel::update(enabled)
                    .set((
                        users::disabled_at.eq(now.micros()),
                        users::updated_at.eq(now.micros()),
                    ))
                    .execute(conn)
                    .await?;
                if changed == 0 {
                    return Ok(None);
                }
                Ok(Some(end_sessions!(conn, id, now, remember, &event)))
            })
            .await
        })
    }

    /// Lets a user in again; ended sessions stay ended. Whether the user was barred.
    pub async fn enable_user(
        &self,
        id: UserId,
        now: Timestamp,
        event: &AuditEvent,
    ) -> Result<bool, StoreError> {
        let event = of_user(event, id);
        write!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                let disabled = users::table
                    .find(id.to_string())
                    .filter(users::disabled_at.is_not_null());
                let changed = diesel::update(disabled)
                    .set((
                        users::disabled_at.eq(None::<i64>),
                        users::updated_at.eq(now.micros()),
                    ))
                    .execute(conn)
                    .await?;
                if changed > 0 {
                    diesel::insert_into(audit_events::table)
                        .values(&event)
                        .execute(conn)
                        .await?;
                }
                Ok(changed > 0)
            })
            .await
        })
    }

    /// Ends every session of a user, who may log in again. `None` when there is no such user.
    pub async fn revoke_user_sessions(
        &self,
        id: UserId,
        now: Timestamp,
        remember: Duration,
        event: &AuditEvent,
    ) -> Result<Option<EndedSessions>, StoreError> {
        let event = of_user(event, id);
        write!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                // Changes nothing, and takes the lock.
                let locked = diesel::update(users::table.find(id.to_string()))
                    .set(users::updated_at.eq(users::updated_at))
                    .execute(conn)
                    .await?;
                if locked == 0 {
                    return Ok(None);
                }
                Ok(Some(end_sessions!(conn, id, now, remember, &event)))
            })
            .await
        })
    }

    /// Changes a user's roles. `None` when there is no such user, otherwise whether they are others now.
    pub async fn change_roles(
        &self,
        id: UserId,
        change: impl Fn(Roles) -> Roles + Send + Sync,
        now: Timestamp,
        event: &AuditEvent,
    ) -> Result<Option<bool>, StoreError> {
        let event = of_user(event, id);
        let change = &change;
        write!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                let roles: Option<String> = diesel::update(users::table.find(id.to_string()))
                    .set(users::updated_at.eq(users::updated_at))
                    .returning(users::roles)
                    .get_result(conn)
                    .await
                    .optional()?;
                let Some(roles) = roles else {
                    return Ok(None);
                };
                let changed = change(Roles::from_stored(&roles)).to_stored();
                if changed == roles {
                    return Ok(Some(false));
                }
                diesel::update(users::table.find(id.to_string()))
                    .set((users::roles.eq(changed), users::updated_at.eq(now.micros())))
                    .execute(conn)
                    .await?;
                diesel::insert_into(audit_events::table)
                    .values(&event)
                    .execute(conn)
                    .await?;
                Ok(Some(true))
            })
            .await
        })
    }
}

fn of_user(event: &AuditEvent, id: UserId) -> AuditEventRow {
    let mut row = event.to_row();
    row.user_id = Some(id.to_string());
    row
}

/// The revocation of all tokens that the ended sessions issued. Tokens bear the time of their session's
/// last rotation, by the clock of the replica that did it: where that runs ahead of ours, it counts.
fn revocation_of(
    id: UserId,
    ended: &[SessionTimes],
    now: Timestamp,
    remember: Duration,
) -> Revocation {
    let last_issue = ended.iter().map(|(rotated_at, ..)| *rotated_at).max();
    let not_before = now.max(last_issue.map_or(now, Timestamp::from_micros));
    Revocation {
        subject: RevokedSubject::User(id),
        not_before,
        created_at: now,
        expires_at: not_before + remember,
    }
}

fn was_live(&(_, idle_expires_at, absolute_expires_at): &SessionTimes, now: Timestamp) -> bool {
    idle_expires_at.min(absolute_expires_at) > now.micros()
}

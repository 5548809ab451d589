//! What is done to a user from above: barred, let in again, thrown out of every session, given roles. Each
//! is one transaction that begins by locking the user's row.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};

use super::{
    AuditEvent, Store, StoreError,
    ending::{EndedSessions, end_sessions},
    revocations::append_revocations,
    schema::{audit_events, revocations, sessions, users},
    write,
};
use crate::{
    clock::Timestamp,
    domain::{Roles, SessionId, UserId},
};

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
        let event = event.to_row_for(id);
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
                Ok(Some(end_sessions!(conn, id, None, now, remember, &event)))
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
        let event = event.to_row_for(id);
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

    /// Ends every session of a user, who may log in again, but for the one that is `kept`. `None` when there is no such
    /// user.
    pub async fn revoke_user_sessions(
        &self,
        id: UserId,
        kept: Option<SessionId>,
        now: Timestamp,
        remember: Duration,
        event: &AuditEvent,
    ) -> Result<Option<EndedSessions>, StoreError> {
        let event = event.to_row_for(id);
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
                Ok(Some(end_sessions!(conn, id, kept, now, remember, &event)))
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
        let event = event.to_row_for(id);
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

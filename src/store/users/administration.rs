//! Administration of users: disable, enable, revoke sessions, change roles. Each is one transaction that begins by
//! locking the user's row.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};

use crate::{
    clock::Timestamp,
    domain::{Roles, SessionId, UserId},
    store::{
        AuditDetails, AuditEvent, Store, StoreError, read,
        revocations::records::append_revocations,
        revoke,
        schema::{audit_events, sessions, users},
        sessions::{
            ending::{
                EndedSession, EndedSessions, Ending, FIRST_BATCH, Scope, ended_session,
                raise_epoch, revoke_ended,
            },
            epochs::session_epoch,
        },
        users::administrators::{is_administrator, keep_an_administrator},
        write,
    },
};

impl Store {
    /// Disables a user and ends every session. `None` when the user is disabled already or does not exist.
    ///
    /// # Errors
    /// [`StoreError::LastAdministrator`] when it is the last one; then nothing changes.
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
        revoke!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                let enabled = users::table
                    .find(id.to_string())
                    .filter(users::disabled_at.is_null());
                let update = diesel::update(enabled)
                    .set((
                        users::disabled_at.eq(now.micros()),
                        users::updated_at.eq(now.micros()),
                    ))
                    .returning((users::roles, users::session_epoch));
                let found: Option<(String, i64)> = update.get_result(conn).await.optional()?;
                let Some((roles, epoch)) = found else {
                    return Ok(None);
                };
                if is_administrator(&Roles::from_stored(&roles)) {
                    keep_an_administrator!(conn, id);
                }
                let ending = Ending {
                    user: id,
                    scope: Scope::All,
                    epoch,
                    now,
                    remember,
                };
                let epoch = raise_epoch!(conn, ending);
                Ok(Some(revoke_ended!(conn, ending, epoch, &event)))
            })
            .await
        })
    }

    /// Enables a user; ended sessions stay ended. Returns whether the user was disabled.
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
    /// user. Nothing is written when there is nothing to end.
    pub async fn revoke_user_sessions(
        &self,
        id: UserId,
        kept: Option<SessionId>,
        now: Timestamp,
        remember: Duration,
        event: &AuditEvent,
    ) -> Result<Option<EndedSessions>, StoreError> {
        match self.has_sessions_to_end(id, kept, now, remember).await? {
            None => return Ok(None),
            Some(false) => return Ok(Some(EndedSessions::default())),
            Some(true) => {}
        }
        let event = event.to_row_for(id);
        revoke!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                // Changes nothing, and takes the lock.
                let lock = diesel::update(users::table.find(id.to_string()))
                    .set(users::updated_at.eq(users::updated_at))
                    .returning(users::session_epoch);
                let Some(epoch) = lock.get_result::<i64>(conn).await.optional()? else {
                    return Ok(None);
                };
                let ending = Ending {
                    user: id,
                    scope: kept.map_or(Scope::All, Scope::AllBut),
                    epoch,
                    now,
                    remember,
                };
                let epoch = raise_epoch!(conn, ending);
                Ok(Some(revoke_ended!(conn, ending, epoch, &event)))
            })
            .await
        })
    }

    /// Whether a user has sessions, apart from the one that is `kept`, that can be refreshed or may have a live access
    /// token. `None` when there is no such user.
    async fn has_sessions_to_end(
        &self,
        id: UserId,
        kept: Option<SessionId>,
        now: Timestamp,
        remember: Duration,
    ) -> Result<Option<bool>, StoreError> {
        let kept = kept.map_or_else(String::new, |kept| kept.to_string());
        let newest: Option<Vec<EndedSession>> = read!(self, |conn| {
            let epoch: Option<i64> = users::table
                .find(id.to_string())
                .select(users::session_epoch)
                .get_result(conn)
                .await
                .optional()?;
            let Some(epoch) = epoch else {
                return Ok(None);
            };
            let open = sessions::table
                .filter(sessions::user_id.eq(id.to_string()))
                .filter(sessions::revoked_at.is_null())
                .filter(session_epoch().ge(epoch))
                .filter(sessions::id.ne(kept))
                .order((session_epoch().desc(), sessions::id.desc()))
                .limit(i64::try_from(FIRST_BATCH).unwrap_or(i64::MAX))
                .select(ended_session!());
            Ok(Some(open.load(conn).await?))
        })?;
        Ok(newest.map(|sessions| {
            sessions.len() == FIRST_BATCH
                || sessions
                    .iter()
                    .any(|session| session.is_live(now) || session.may_have_token(now, remember))
        }))
    }

    /// Changes a user's roles. Returns whether they changed; `None` when there is no such user.
    ///
    /// # Errors
    /// [`StoreError::LastAdministrator`] when the last one would lose that role; then nothing changes.
    pub async fn change_roles(
        &self,
        id: UserId,
        change: impl Fn(Roles) -> Roles + Send + Sync,
        now: Timestamp,
        event: &AuditEvent,
    ) -> Result<Option<bool>, StoreError> {
        let change = &change;
        // Most calls that change nothing end here, without a write.
        let Some(user) = self.find_user(id).await? else {
            return Ok(None);
        };
        if change(user.roles.clone()) == user.roles {
            return Ok(Some(false));
        }
        write!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                let found: Option<(String, Option<i64>)> =
                    diesel::update(users::table.find(id.to_string()))
                        .set(users::updated_at.eq(users::updated_at))
                        .returning((users::roles, users::disabled_at))
                        .get_result(conn)
                        .await
                        .optional()?;
                let Some((roles, disabled_at)) = found else {
                    return Ok(None);
                };
                let before = Roles::from_stored(&roles);
                let after = change(before.clone());
                let changed = after.to_stored();
                if changed == roles {
                    return Ok(Some(false));
                }
                if is_administrator(&before) && !is_administrator(&after) && disabled_at.is_none() {
                    keep_an_administrator!(conn, id);
                }
                diesel::update(users::table.find(id.to_string()))
                    .set((users::roles.eq(changed), users::updated_at.eq(now.micros())))
                    .execute(conn)
                    .await?;
                let details = AuditDetails::Roles { before, after };
                diesel::insert_into(audit_events::table)
                    .values(event.to_row_for(id).with(&details))
                    .execute(conn)
                    .await?;
                Ok(Some(true))
            })
            .await
        })
    }
}

//! Deletion of a user: the tokens are revoked, personal data goes, the audit trail keeps ids alone.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};

use crate::{
    clock::Timestamp,
    domain::{Email, PositionedRevocation, Roles, UserId},
    store::{
        AuditEvent, Store, StoreError,
        revocations::records::append_revocations,
        revoke,
        schema::{audit_events, login_failures, mails, sessions, users},
        sessions::{
            ending::{self, EndedSession, Ending, Scope, ended_session, raise_epoch},
            epochs::session_epoch,
        },
        users::administrators::{is_administrator, keep_an_administrator},
    },
};

impl Store {
    /// Deletes a user with the sessions, the mails to the user or the address, and the counters of failed logins, those of `counters` included, and
    /// revokes every token. `None` when there is no such user.
    ///
    /// `remember` is how long the last access token may live, counted from its session's last rotation. Of more sessions
    /// than `ending::FIRST_BATCH` the oldest are revoked by the revocation of the user alone.
    ///
    /// # Errors
    /// [`StoreError::LastAdministrator`] when it is the last one; then nothing changes.
    pub async fn delete_user(
        &self,
        id: UserId,
        counters: &[String],
        now: Timestamp,
        remember: Duration,
        event: &AuditEvent,
    ) -> Result<Option<Vec<PositionedRevocation>>, StoreError> {
        let event = event.to_row_for(id);
        let user = id.to_string();
        revoke!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                // Changes nothing, and takes the lock.
                let lock = diesel::update(users::table.find(&user))
                    .set(users::updated_at.eq(users::updated_at))
                    .returning((
                        users::email,
                        users::roles,
                        users::disabled_at,
                        users::session_epoch,
                    ));
                let found: Option<(String, String, Option<i64>, i64)> =
                    lock.get_result(conn).await.optional()?;
                let Some((email, roles, disabled_at, epoch)) = found else {
                    return Ok(None);
                };
                if is_administrator(&Roles::from_stored(&roles)) && disabled_at.is_none() {
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
                let newest: Vec<EndedSession> = sessions::table
                    .filter(sessions::user_id.eq(&user))
                    .filter(sessions::revoked_at.is_null())
                    .filter(session_epoch().ge(ending.epoch))
                    .order((session_epoch().desc(), sessions::id.desc()))
                    .limit(i64::try_from(ending::FIRST_BATCH).unwrap_or(i64::MAX))
                    .select(ended_session!())
                    .load(conn)
                    .await?;
                let revocations = ending::revocations(&ending, epoch, &newest)?;
                let of_user = login_failures::account
                    .eq_any(counters)
                    .or(login_failures::user_id.eq(&user));
                diesel::delete(login_failures::table.filter(of_user))
                    .execute(conn)
                    .await?;
                diesel::delete(mails::table.filter(mails::user_id.eq(&user)))
                    .execute(conn)
                    .await?;
                // Those that somebody asked for by the address, and that were given up or still wait.
                let key = Email::from_stored(email).key();
                diesel::delete(mails::table.filter(mails::email_key.eq(key)))
                    .execute(conn)
                    .await?;
                // The sessions and whatever else belongs to the user go with it.
                diesel::delete(users::table.find(&user))
                    .execute(conn)
                    .await?;
                diesel::insert_into(audit_events::table)
                    .values(&event)
                    .execute(conn)
                    .await?;
                Ok(Some(append_revocations!(conn, revocations)))
            })
            .await
        })
    }
}

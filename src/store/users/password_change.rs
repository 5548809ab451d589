//! A change of password: one transaction that begins by locking the user's row.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};

use crate::{
    clock::Timestamp,
    domain::{NewMail, Roles, Session},
    store::{
        AuditEvent, Store, StoreError,
        mails::outbox::{NewMailRow, queue_mail},
        revocations::records::append_revocations,
        revoke,
        schema::{audit_events, sessions, users},
        sessions::{
            ending::{EndedSessions, Ending, Scope, raise_epoch, revoke_ended},
            records::SessionRow,
        },
    },
};

/// What a change of password changes, all at once.
pub struct PasswordChange<'a> {
    /// The session that replaces all others.
    pub session: &'a Session,
    /// The hash that the old password was checked against.
    pub verified_hash: &'a str,
    /// The hash of the new password.
    pub new_hash: &'a str,
    /// What tells the owner.
    pub mail: &'a NewMail,
}

/// A password that was changed.
#[derive(Clone, Debug)]
pub struct ChangedPassword {
    /// The sessions that ended with it.
    pub ended: EndedSessions,
    /// The roles that the user has in this transaction, which are those of the new tokens.
    pub roles: Roles,
    /// The access tokens of the new session are dated later than this.
    pub issued_after: Timestamp,
}

impl Store {
    /// Replaces a user's password, ends every session and opens a new one. `None` when the user is gone or
    /// disabled, or changed the password since it was checked.
    ///
    /// `remember` is how long the last access token may live, counted from its session's last rotation.
    pub async fn change_password(
        &self,
        change: PasswordChange<'_>,
        now: Timestamp,
        remember: Duration,
        event: &AuditEvent,
    ) -> Result<Option<ChangedPassword>, StoreError> {
        let id = change.session.user_id;
        let event = event.to_row_for(id);
        let mail = NewMailRow::of(change.mail);
        let changed = revoke!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                let user = users::table
                    .find(id.to_string())
                    .filter(users::disabled_at.is_null())
                    .filter(users::password_hash.eq(change.verified_hash));
                let update = diesel::update(user)
                    .set((
                        users::password_hash.eq(change.new_hash),
                        users::updated_at.eq(now.micros()),
                    ))
                    .returning((users::roles, users::session_epoch));
                let found: Option<(String, i64)> = update.get_result(conn).await.optional()?;
                let Some((roles, epoch)) = found else {
                    return Ok(None);
                };
                let ending = Ending {
                    user: id,
                    scope: Scope::Replaced,
                    epoch,
                    now,
                    remember,
                };
                let epoch = raise_epoch!(conn, ending);
                let mut row = SessionRow::from(change.session);
                row.session_epoch = Some(epoch);
                diesel::insert_into(sessions::table)
                    .values(&row)
                    .execute(conn)
                    .await?;
                queue_mail!(conn, &mail);
                let ended = revoke_ended!(conn, ending, epoch, &event);
                let roles = Roles::from_stored(&roles);
                let issued_after = Timestamp::from_micros(epoch);
                Ok(Some(ChangedPassword {
                    ended,
                    roles,
                    issued_after,
                }))
            })
            .await
        })?;
        self.mail_queued.notify_one();
        Ok(changed)
    }
}

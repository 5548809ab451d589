//! A change of password: one transaction that begins by locking the user's row.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};

use super::{
    AuditEvent, Store, StoreError,
    ending::{EndedSessions, end_sessions},
    revocations::append_revocations,
    schema::{audit_events, revocations, sessions, users},
    sessions::SessionRow,
    write,
};
use crate::{
    clock::Timestamp,
    domain::{Roles, Session, SessionId, UserId},
};

/// What a change of password changes, all at once.
pub struct PasswordChange<'a> {
    /// The session that takes the place of all others.
    pub session: &'a Session,
    /// The hash that the old password was checked against.
    pub verified_hash: &'a str,
    /// The hash of the new password.
    pub new_hash: &'a str,
}

/// A password that was changed.
#[derive(Clone, Debug)]
pub struct ChangedPassword {
    /// The sessions that ended with it.
    pub ended: EndedSessions,
    /// The roles that the user has in this transaction, which are those of the new tokens.
    pub roles: Roles,
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
        write!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                let user = users::table
                    .find(id.to_string())
                    .filter(users::disabled_at.is_null())
                    .filter(users::password_hash.eq(change.verified_hash));
                let roles: Option<String> = diesel::update(user)
                    .set((
                        users::password_hash.eq(change.new_hash),
                        users::updated_at.eq(now.micros()),
                    ))
                    .returning(users::roles)
                    .get_result(conn)
                    .await
                    .optional()?;
                let Some(roles) = roles else {
                    return Ok(None);
                };
                diesel::insert_into(sessions::table)
                    .values(&SessionRow::from(change.session))
                    .execute(conn)
                    .await?;
                let kept = Some(change.session.id);
                let ended = end_sessions!(conn, id, kept, now, remember, &event);
                let roles = Roles::from_stored(&roles);
                Ok(Some(ChangedPassword { ended, roles }))
            })
            .await
        })
    }
}

//! What one-time tokens change: a forgotten password, and whether an address is verified.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};

use crate::{
    clock::Timestamp,
    domain::{Email, NewMail, User, UserId},
    store::{
        AuditEvent, Store, StoreError,
        mails::outbox::{NewMailRow, queue_mail},
        read,
        revocations::records::append_revocations,
        revoke,
        schema::{audit_events, sessions, users},
        sessions::ending::{EndedSessions, Ending, Scope, raise_epoch, revoke_ended},
        users::records::{UserRow, has_email},
        write,
    },
};

/// A user whose password may be reset, and the stored hash that a token for that is bound to.
#[derive(Clone, Debug)]
pub struct RecoverySubject {
    /// The user.
    pub user: User,
    /// The stored hash of the password.
    pub password_hash: String,
}

/// A reset of a password, all of it at once.
pub struct PasswordReset<'a> {
    /// Whose.
    pub user_id: UserId,
    /// The hash that the token was bound to.
    pub old_hash: &'a str,
    /// The hash of the new password.
    pub new_hash: &'a str,
    /// What tells the owner.
    pub mail: &'a NewMail,
}

/// What a reset of a password ended.
#[derive(Clone, Debug)]
pub struct ResetSessions {
    /// The sessions.
    pub ended: EndedSessions,
    /// Whether the user has a second factor.
    pub has_factor: bool,
}

type SubjectRow = (UserRow, String);

fn subject(row: SubjectRow) -> Result<RecoverySubject, StoreError> {
    Ok(RecoverySubject {
        user: row.0.try_into()?,
        password_hash: row.1,
    })
}

impl Store {
    /// The user with that id, and the stored hash.
    pub async fn find_recovery_subject(
        &self,
        id: UserId,
    ) -> Result<Option<RecoverySubject>, StoreError> {
        let found: Option<SubjectRow> = read!(self, |conn| {
            Ok(users::table
                .find(id.to_string())
                .select((UserRow::as_select(), users::password_hash))
                .get_result(conn)
                .await
                .optional()?)
        })?;
        found.map(subject).transpose()
    }

    /// The user with that address, and the stored hash.
    pub async fn find_recovery_subject_by_email(
        &self,
        email: &Email,
    ) -> Result<Option<RecoverySubject>, StoreError> {
        let (key, legacy_key) = (&email.key(), &email.legacy_key());
        let found: Option<SubjectRow> = read!(self, |conn| {
            Ok(users::table
                .filter(has_email(key, legacy_key))
                .order(users::email_key.eq(legacy_key).desc())
                .select((UserRow::as_select(), users::password_hash))
                .get_result(conn)
                .await
                .optional()?)
        })?;
        found.map(subject).transpose()
    }

    /// Sets a new password where the old one is still the one that the token was made for, ends every session, and
    /// verifies the address, for the token came from there. `None` when the token is used up, or the user is disabled or
    /// gone.
    ///
    /// `remember` is how long the last access token may live, counted from its session's last rotation.
    pub async fn reset_password(
        &self,
        reset: PasswordReset<'_>,
        now: Timestamp,
        remember: Duration,
        event: &AuditEvent,
    ) -> Result<Option<ResetSessions>, StoreError> {
        let id = reset.user_id;
        let event = event.to_row_for(id);
        let mail = NewMailRow::of(reset.mail);
        let ended = revoke!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                let user = users::table
                    .find(id.to_string())
                    .filter(users::disabled_at.is_null())
                    .filter(users::password_hash.eq(reset.old_hash));
                let update = diesel::update(user)
                    .set((
                        users::password_hash.eq(reset.new_hash),
                        users::updated_at.eq(now.micros()),
                    ))
                    .returning((users::session_epoch, users::factor_kinds.is_not_null()));
                let Some((epoch, has_factor)) =
                    update.get_result::<(i64, bool)>(conn).await.optional()?
                else {
                    return Ok(None);
                };
                let unverified = users::table
                    .find(id.to_string())
                    .filter(users::email_verified_at.is_null());
                diesel::update(unverified)
                    .set(users::email_verified_at.eq(now.micros()))
                    .execute(conn)
                    .await?;
                let ending = Ending {
                    user: id,
                    scope: Scope::All,
                    epoch,
                    now,
                    remember,
                };
                let epoch = raise_epoch!(conn, ending);
                queue_mail!(conn, &mail);
                let ended = revoke_ended!(conn, ending, epoch, &event);
                Ok(Some(ResetSessions { ended, has_factor }))
            })
            .await
        })?;
        self.mail_queued.notify_one();
        Ok(ended)
    }

    /// Marks an address as verified, where it is still the user's and not verified yet; says whether it was so.
    pub async fn verify_email(
        &self,
        id: UserId,
        email: &Email,
        now: Timestamp,
        event: &AuditEvent,
    ) -> Result<bool, StoreError> {
        let event = event.to_row_for(id);
        write!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                let user = users::table
                    .find(id.to_string())
                    .filter(users::disabled_at.is_null())
                    .filter(users::email.eq(email.as_str()))
                    .filter(users::email_verified_at.is_null());
                let verified = diesel::update(user)
                    .set((
                        users::email_verified_at.eq(now.micros()),
                        users::updated_at.eq(now.micros()),
                    ))
                    .execute(conn)
                    .await?;
                if verified == 1 {
                    diesel::insert_into(audit_events::table)
                        .values(&event)
                        .execute(conn)
                        .await?;
                }
                Ok(verified == 1)
            })
            .await
        })
    }
}

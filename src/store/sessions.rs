//! Sessions: opened by a login, revoked for good. (`rotations` moves them on in between.)

use std::time::Duration;

use diesel::{
    dsl::{exists, not},
    prelude::*,
};
use diesel_async::{AsyncConnection, RunQueryDsl};

use super::{
    AuditEvent, Store, StoreError,
    ending::last_issue,
    login_failures::{StateColumns, claimed_until, state, stored},
    prepared::Prepared,
    read,
    revocations::append_revocations,
    schema::{audit_events, login_failures, revocations, sessions, users},
    users::parse_user_id,
    write,
};
use crate::{
    clock::Timestamp,
    domain::{
        DeviceLabel, FailureCounter, PositionedRevocation, Revocation, Roles, Session, SessionId,
        UserId,
    },
};

// `NULL` is written out, so that the statement is always the same and stays prepared: on PostgreSQL a round trip less at
// every login.
#[derive(Insertable, Queryable, Selectable)]
#[diesel(table_name = sessions, treat_none_as_default_value = false)]
pub(super) struct SessionRow {
    id: String,
    user_id: String,
    device_label: String,
    client_ip: String,
    user_agent: String,
    generation: i32,
    created_at: i64,
    rotated_at: i64,
    idle_expires_at: i64,
    absolute_expires_at: i64,
    revoked_at: Option<i64>,
}

impl From<&Session> for SessionRow {
    fn from(session: &Session) -> Self {
        Self {
            id: session.id.to_string(),
            user_id: session.user_id.to_string(),
            device_label: session.device_label.as_str().to_owned(),
            client_ip: session.client_ip.clone(),
            user_agent: session.user_agent.clone(),
            generation: session.generation,
            created_at: session.created_at.micros(),
            rotated_at: session.rotated_at.micros(),
            idle_expires_at: session.idle_expires_at.micros(),
            absolute_expires_at: session.absolute_expires_at.micros(),
            revoked_at: session.revoked_at.map(Timestamp::micros),
        }
    }
}

impl TryFrom<SessionRow> for Session {
    type Error = StoreError;

    fn try_from(row: SessionRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: parse_session_id(&row.id)?,
            user_id: parse_user_id(&row.user_id)?,
            device_label: DeviceLabel::from_stored(row.device_label),
            client_ip: row.client_ip,
            user_agent: row.user_agent,
            generation: row.generation,
            created_at: Timestamp::from_micros(row.created_at),
            rotated_at: Timestamp::from_micros(row.rotated_at),
            idle_expires_at: Timestamp::from_micros(row.idle_expires_at),
            absolute_expires_at: Timestamp::from_micros(row.absolute_expires_at),
            revoked_at: row.revoked_at.map(Timestamp::from_micros),
        })
    }
}

pub(super) fn parse_session_id(text: &str) -> Result<SessionId, StoreError> {
    text.parse()
        .map_err(|_| StoreError::Corrupt(format!("session id {text:?}")))
}

/// What a successful login changes, all at once.
pub struct Login<'a> {
    /// The session to open.
    pub session: &'a Session,
    /// The hash that the password was checked against.
    pub verified_hash: &'a str,
    /// The hash to put in its place, when the stored one has gone out of date.
    pub new_hash: Option<&'a str>,
    /// The counter of failed logins that admitted the attempt (see `login_failures`).
    pub counter: &'a str,
    /// Whether it has failures, which the success clears.
    pub clear: bool,
    /// How many failures it may have without a claim.
    pub limit: u32,
    /// The trial that the attempt claimed, if the counter stood at the limit.
    pub claim: Option<FailureCounter>,
}

/// What became of a login with a right password.
#[derive(Debug)]
pub enum Opening {
    /// The session is open. These are the roles that the user has in this transaction: those of the tokens.
    Opened(Roles),
    /// The user was disabled or deleted, or the password hash replaced, since the password was checked.
    CredentialsChanged,
    /// Others brought the counter to the limit meanwhile; this is how it stands.
    Throttled(FailureCounter),
}

/// A session with what else decides about its refresh tokens.
pub struct RefreshSubject {
    /// The session.
    pub session: Session,
    /// Whether its user is disabled.
    pub user_disabled: bool,
    /// The roles the user has now.
    pub roles: Roles,
}

impl Store {
    /// Opens a session, unless the credentials changed since the password was checked or the counter reached its limit.
    ///
    /// The first statement takes the lock on the user's row, so that a concurrent change of it is seen or waits. It
    /// looks at the counter as well: of guesses in parallel, no right one succeeds once the limit of wrong ones has
    /// been answered.
    pub async fn open_session(&self, login: Login<'_>) -> Result<Opening, StoreError> {
        let row = SessionRow::from(login.session);
        let hash = login.new_hash.unwrap_or(login.verified_hash);
        let at_limit = login_failures::table
            .find(login.counter)
            .filter(login_failures::failures.ge(stored(login.limit)))
            .filter(login_failures::retry_at.ne(claimed_until(login.claim)));
        write!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                let user = users::table
                    .filter(users::id.eq(&row.user_id))
                    .filter(users::disabled_at.is_null())
                    .filter(users::password_hash.eq(login.verified_hash))
                    .filter(not(exists(at_limit)));
                let update = diesel::update(user)
                    .set((
                        users::last_login_at.eq(row.created_at),
                        users::password_hash.eq(hash),
                    ))
                    .returning(users::roles);
                let roles: Option<String> = Prepared(update).get_result(conn).await.optional()?;
                let Some(roles) = roles else {
                    let counter: Option<StateColumns> = at_limit
                        .select((login_failures::failures, login_failures::retry_at))
                        .get_result(conn)
                        .await
                        .optional()?;
                    return Ok(match counter {
                        Some(columns) => Opening::Throttled(state(columns)),
                        None => Opening::CredentialsChanged,
                    });
                };
                diesel::insert_into(sessions::table)
                    .values(&row)
                    .execute(conn)
                    .await?;
                if login.clear {
                    diesel::delete(login_failures::table.find(login.counter))
                        .execute(conn)
                        .await?;
                }
                Ok(Opening::Opened(Roles::from_stored(&roles)))
            })
            .await
        })
    }

    /// A session and what decides about its refresh tokens; `None` when there is no such session.
    pub async fn find_refresh_subject(
        &self,
        id: SessionId,
    ) -> Result<Option<RefreshSubject>, StoreError> {
        let found: Option<(SessionRow, Option<i64>, String)> = read!(self, |conn| {
            Ok(sessions::table
                .inner_join(users::table)
                .filter(sessions::id.eq(id.to_string()))
                .select((SessionRow::as_select(), users::disabled_at, users::roles))
                .get_result(conn)
                .await
                .optional()?)
        })?;
        found
            .map(|(row, disabled_at, roles)| {
                Ok(RefreshSubject {
                    session: row.try_into()?,
                    user_disabled: disabled_at.is_some(),
                    roles: Roles::from_stored(&roles),
                })
            })
            .transpose()
    }

    /// The session with that id, live or not.
    pub async fn find_session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        let found: Option<SessionRow> = read!(self, |conn| {
            Ok(sessions::table
                .find(id.to_string())
                .select(SessionRow::as_select())
                .get_result(conn)
                .await
                .optional()?)
        })?;
        found.map(Session::try_from).transpose()
    }

    /// Sessions of a user that can still be refreshed at `now`, the latest first: `limit` of them at most, all of
    /// them older than `older_than`.
    pub async fn list_sessions(
        &self,
        user_id: UserId,
        now: Timestamp,
        older_than: SessionId,
        limit: i64,
    ) -> Result<Vec<Session>, StoreError> {
        let rows: Vec<SessionRow> = read!(self, |conn| {
            Ok(sessions::table
                .filter(sessions::user_id.eq(user_id.to_string()))
                .filter(sessions::revoked_at.is_null())
                .filter(sessions::idle_expires_at.gt(now.micros()))
                .filter(sessions::absolute_expires_at.gt(now.micros()))
                // The ids are UUIDv7: their order is that of the logins.
                .filter(sessions::id.lt(older_than.to_string()))
                .order(sessions::id.desc())
                .limit(limit)
                .select(SessionRow::as_select())
                .load(conn)
                .await?)
        })?;
        rows.into_iter().map(Session::try_from).collect()
    }

    /// Revokes a session for good, tells the other replicas, and records why. `None` when it was revoked
    /// before, or there is none.
    ///
    /// `remember` is how long its last access token may live. That token is as old as the last rotation,
    /// by the clock of the replica that did it: whoever revokes may have a clock that was set back.
    pub async fn revoke_session(
        &self,
        id: SessionId,
        now: Timestamp,
        remember: Duration,
        event: &AuditEvent,
    ) -> Result<Option<PositionedRevocation>, StoreError> {
        let mut event = event.to_row();
        event.session_id = Some(id.to_string());
        write!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                let live = sessions::table
                    .filter(sessions::id.eq(id.to_string()))
                    .filter(sessions::revoked_at.is_null());
                let ended: Option<(String, i64)> = diesel::update(live)
                    .set(sessions::revoked_at.eq(now.micros()))
                    .returning((sessions::user_id, sessions::rotated_at))
                    .get_result(conn)
                    .await
                    .optional()?;
                let Some((user_id, rotated_at)) = ended else {
                    return Ok(None);
                };
                event.user_id = Some(user_id);
                diesel::insert_into(audit_events::table)
                    .values(&event)
                    .execute(conn)
                    .await?;
                let expires_at = now.max(last_issue(rotated_at)) + remember;
                let revocation = Revocation::of_session(id, now, expires_at);
                Ok(append_revocations!(conn, vec![revocation]).pop())
            })
            .await
        })
    }
}

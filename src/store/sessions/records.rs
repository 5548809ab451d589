//! Sessions: found, listed, revoked one by one. (`logins` opens them, `rotations` moves them on, `ending` ends all.)

use std::time::Duration;

use diesel::{dsl::exists, prelude::*};
use diesel_async::{AsyncConnection, RunQueryDsl};

use crate::{
    clock::Timestamp,
    domain::{
        DeviceLabel, PositionedRevocation, Revocation, Roles, Session, SessionClaims, SessionId,
        UserId,
    },
    store::{
        AuditEvent, Store, StoreError,
        ids::{parse_session_id, parse_user_id},
        read,
        revocations::records::append_revocations,
        revoke,
        schema::{audit_events, sessions, users},
        sessions::{ending::last_issue, epochs::session_epoch},
    },
};

// `NULL` is written out, so that the statement is always the same and stays prepared: on PostgreSQL a round trip less at
// every login.
#[derive(Insertable, Queryable, Selectable)]
#[diesel(table_name = sessions, treat_none_as_default_value = false)]
pub(in crate::store) struct SessionRow {
    pub(in crate::store) id: String,
    pub(in crate::store) user_id: String,
    device_label: String,
    client_ip: String,
    user_agent: String,
    generation: i32,
    pub(in crate::store) created_at: i64,
    rotated_at: i64,
    idle_expires_at: i64,
    absolute_expires_at: i64,
    revoked_at: Option<i64>,
    /// See `epochs`.
    pub(in crate::store) session_epoch: Option<i64>,
    authenticated_at: Option<i64>,
    authentication_methods: Option<String>,
    audiences: Option<String>,
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
            // Whoever opens it takes it from its user's row.
            session_epoch: None,
            authenticated_at: Some(session.claims.authenticated_at.micros()),
            authentication_methods: session.claims.stored_methods(),
            audiences: session.claims.stored_audiences(),
        }
    }
}

impl SessionRow {
    fn epoch(&self) -> i64 {
        self.session_epoch.unwrap_or(self.created_at)
    }
}

impl TryFrom<SessionRow> for Session {
    type Error = StoreError;

    fn try_from(row: SessionRow) -> Result<Self, StoreError> {
        let epoch = Timestamp::from_micros(row.epoch());
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
            claims: SessionClaims::from_stored(
                Timestamp::from_micros(row.authenticated_at.unwrap_or(row.created_at)),
                row.authentication_methods.as_deref(),
                row.audiences.as_deref(),
                epoch,
            ),
        })
    }
}

/// The session of a user, if it can still be refreshed and the user is not disabled: what a statement is about.
macro_rules! live_session {
    ($user:expr, $session:expr, $now:expr) => {{
        use $crate::store::{
            schema::{sessions, users},
            sessions::epochs::session_epoch,
        };
        let (user, session): ($crate::domain::UserId, $crate::domain::SessionId) =
            ($user, $session);
        let now: $crate::clock::Timestamp = $now;
        let owner = users::table
            .filter(users::id.eq(sessions::user_id))
            .filter(users::disabled_at.is_null())
            .filter(users::session_epoch.le(session_epoch()));
        sessions::table
            .filter(sessions::id.eq(session.to_string()))
            .filter(sessions::user_id.eq(user.to_string()))
            .filter(sessions::revoked_at.is_null())
            .filter(sessions::idle_expires_at.gt(now.micros()))
            .filter(sessions::absolute_expires_at.gt(now.micros()))
            .filter(diesel::dsl::exists(owner))
    }};
}

pub(in crate::store) use live_session;

/// A session with what else decides about its refresh tokens.
pub struct RefreshSubject {
    /// The session.
    pub session: Session,
    /// Whether its user is disabled, or has ended all sessions since.
    pub user_disabled: bool,
    /// The roles the user has now.
    pub roles: Roles,
}

impl Store {
    /// A session and what decides about its refresh tokens; `None` when there is no such session.
    pub async fn find_refresh_subject(
        &self,
        id: SessionId,
    ) -> Result<Option<RefreshSubject>, StoreError> {
        let found: Option<(SessionRow, Option<i64>, i64, String)> = read!(self, |conn| {
            Ok(sessions::table
                .inner_join(users::table)
                .filter(sessions::id.eq(id.to_string()))
                .select((
                    SessionRow::as_select(),
                    users::disabled_at,
                    users::session_epoch,
                    users::roles,
                ))
                .get_result(conn)
                .await
                .optional()?)
        })?;
        found
            .map(|(row, disabled_at, epoch, roles)| {
                Ok(RefreshSubject {
                    user_disabled: disabled_at.is_some() || row.epoch() < epoch,
                    session: row.try_into()?,
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

    /// Sessions of a user that can still be refreshed at `now`, the latest login first: `limit` of them at most, from
    /// the one behind `after` on.
    pub async fn list_sessions(
        &self,
        user_id: UserId,
        now: Timestamp,
        after: Option<SessionId>,
        limit: i64,
    ) -> Result<Vec<Session>, StoreError> {
        let user = user_id.to_string();
        let last = after.unwrap_or(SessionId::MAX).to_string();
        let rows: Vec<SessionRow> = read!(self, |conn| {
            let own = sessions::table.filter(sessions::user_id.eq(&user));
            let user_epoch: Option<i64> = users::table
                .find(&user)
                .select(users::session_epoch)
                .get_result(conn)
                .await
                .optional()?;
            let begin: Option<i64> = own
                .filter(sessions::id.eq(&last))
                .select(session_epoch())
                .get_result(conn)
                .await
                .optional()?;
            // Of a session that has been purged meanwhile, its id tells roughly where it was.
            let begin = begin.or(after.map(|id| id.created_at().micros()));
            let begin = begin.unwrap_or(i64::MAX);
            let is_behind = session_epoch()
                .lt(begin)
                .or(session_epoch().eq(begin).and(sessions::id.lt(&last)));
            Ok(own
                .filter(sessions::revoked_at.is_null())
                .filter(session_epoch().ge(user_epoch.unwrap_or(i64::MAX)))
                .filter(session_epoch().le(begin))
                .filter(is_behind)
                .filter(sessions::idle_expires_at.gt(now.micros()))
                .filter(sessions::absolute_expires_at.gt(now.micros()))
                .order((session_epoch().desc(), sessions::id.desc()))
                .limit(limit)
                .select(SessionRow::as_select())
                .load(conn)
                .await?)
        })?;
        rows.into_iter().map(Session::try_from).collect()
    }

    /// Revokes a session for good, tells the other replicas, and records why. `None` when it has ended
    /// before, or there is none: then nothing is written.
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
        revoke!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                let user = users::table
                    .filter(users::id.eq(sessions::user_id))
                    .filter(users::session_epoch.le(session_epoch()));
                let live = sessions::table
                    .filter(sessions::id.eq(id.to_string()))
                    .filter(sessions::revoked_at.is_null())
                    .filter(exists(user));
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

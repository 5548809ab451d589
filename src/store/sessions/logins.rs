//! Logins: opening a session, and ending the oldest where the user has too many.

use std::{num::NonZeroU32, time::Duration};

use diesel::{
    IntoSql as _,
    dsl::{exists, not},
    prelude::*,
    sql_types::Bool,
};
use diesel_async::{AsyncConnection, RunQueryDsl};

use crate::{
    clock::Timestamp,
    domain::{FailureCounter, NewMail, PositionedRevocation, Roles, Session},
    store::{
        AuditEvent, FactorProof, Store, StoreError,
        factors::proofs::use_proof,
        mails::outbox::{NewMailRow, queue_new_device_mail},
        prepared::Prepared,
        revocations::records::append_revocations,
        schema::{audit_events, login_failures, sessions, users},
        sessions::{
            ending::{EndedSession, ended_session},
            epochs::{self, session_epoch},
            login_failures::{StateColumns, claimed_until, state, stored},
            login_records::InsertSession as _,
            records::SessionRow,
            sweeps::request_sweep,
        },
        write,
    },
};

/// Sessions beyond the limit that one login ends by itself. There are more only after the limit was lowered, or after
/// an upgrade from a version without one; a sweep ends those.
const MAX_EXCESS: usize = 16;

/// A login looks at so many of the user's newest sessions that are not revoked, and at twice the limit more: expired ones
/// are among them until they are purged, and a login must not take longer the more of those there are.
const WINDOW: i64 = 500;

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
    /// The proof by a second factor or a passkey. Without one the login succeeds only while the user has no factor.
    pub proof: Option<&'a FactorProof>,
    /// How many live sessions the user may have, this one included: beyond that the oldest end.
    pub max_sessions: NonZeroU32,
    /// How long the last access token of an ended session may live, counted from the session's last rotation.
    pub remember: Duration,
    /// What is recorded of the login.
    pub event: &'a AuditEvent,
    /// What is recorded for each session that ends.
    pub ended_event: &'a AuditEvent,
    /// What tells the owner of a new device.
    pub mail: Option<&'a NewMail>,
}

/// What became of a login with a right password.
#[derive(Debug)]
pub enum Opening {
    /// The session is open.
    Opened(OpenedSession),
    /// The user was disabled or deleted, the password hash replaced, or a first factor added, since the password was
    /// checked.
    CredentialsChanged,
    /// What the proof uses up was used before.
    ProofRefused,
    /// Others brought the counter to the limit meanwhile; this is how it stands.
    Throttled(FailureCounter),
}

/// A session that was opened.
#[derive(Clone, Debug)]
pub struct OpenedSession {
    /// The roles that the user has in the transaction that opened it, which are those of its tokens.
    pub roles: Roles,
    /// Its access tokens are dated later than this.
    pub issued_after: Timestamp,
    /// The older sessions that it ended.
    pub ended: Vec<PositionedRevocation>,
    /// Whether a sweep has to end more of them.
    pub is_partial: bool,
    /// Whether a mail has to be sent: not where one of today tells of such logins already.
    mail_queued: bool,
}

/// Ends the oldest live sessions of a user who has just opened the one in `$row`, so that no more than the limit are
/// left: normally one. Returns what tells the replicas, and whether there are more.
macro_rules! end_oldest {
    ($conn:expr, $login:expr, $row:expr, $epoch:expr, $now:expr, $window:expr) => {{
        let newest: Vec<EndedSession> = sessions::table
            .filter(sessions::user_id.eq(&$row.user_id))
            .filter(sessions::revoked_at.is_null())
            .filter(session_epoch().ge($epoch))
            .filter(sessions::id.ne(&$row.id))
            .order((session_epoch().desc(), sessions::id.desc()))
            .limit($window)
            .select(ended_session!())
            .load($conn)
            .await?;
        let (excess, has_more) = beyond_limit(newest, $login.max_sessions, $now);
        let ended: Vec<EndedSession> =
            diesel::update(sessions::table.filter(sessions::id.eq_any(excess)))
                .set(sessions::revoked_at.eq($now.micros()))
                .returning(ended_session!())
                .get_results($conn)
                .await?;
        for session in &ended {
            let mut event = $login.ended_event.to_row_for($login.session.user_id);
            event.session_id = Some(session.id.clone());
            diesel::insert_into(audit_events::table)
                .values(&event)
                .execute($conn)
                .await?;
        }
        if has_more {
            request_sweep!($conn, $row.user_id, $now, 0);
        }
        let revocations = ended
            .iter()
            .map(|session| session.revocation($now, $login.remember))
            .collect::<Result<Vec<_>, _>>()?;
        (append_revocations!($conn, revocations), has_more)
    }};
}

/// The ids of the live sessions that a login ends, of all others from the newest to the oldest; and whether there are
/// more than it ends by itself.
fn beyond_limit(
    others: Vec<EndedSession>,
    max_sessions: NonZeroU32,
    now: Timestamp,
) -> (Vec<String>, bool) {
    let kept = usize::try_from(max_sessions.get() - 1).unwrap_or(usize::MAX);
    let live = others.into_iter().filter(|session| session.is_live(now));
    let mut excess: Vec<_> = live.skip(kept).map(|session| session.id).collect();
    let has_more = excess.len() > MAX_EXCESS;
    excess.truncate(MAX_EXCESS);
    (excess, has_more)
}

impl Store {
    /// Opens a session, unless the credentials changed since they were checked, the counter reached its limit, or the proof
    /// was used before.
    ///
    /// The first statement takes the lock on the user's row, so that a concurrent change of it is seen or waits, and
    /// logins of one user see each other's sessions. It looks at the counter as well: of guesses in parallel, no right
    /// one succeeds once the limit of wrong ones has been answered.
    pub async fn open_session(&self, login: Login<'_>) -> Result<Opening, StoreError> {
        let mut row = SessionRow::from(login.session);
        let now = login.session.created_at;
        let hash = login.new_hash.unwrap_or(login.verified_hash);
        let window = WINDOW + 2 * i64::from(login.max_sessions.get());
        let at_limit = login_failures::table
            .find(login.counter)
            .filter(login_failures::failures.ge(stored(login.limit)))
            .filter(login_failures::retry_at.ne(claimed_until(login.claim)));
        let mut event = login.event.to_row_for(login.session.user_id);
        event.session_id = Some(row.id.clone());
        let mail = login.mail.map(NewMailRow::of);
        let has_proof = login.proof.is_some();
        let opened = write!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                let user = users::table
                    .filter(users::id.eq(&row.user_id))
                    .filter(users::disabled_at.is_null())
                    .filter(users::password_hash.eq(login.verified_hash))
                    .filter(
                        users::factor_kinds
                            .is_null()
                            .or(has_proof.into_sql::<Bool>()),
                    )
                    .filter(not(exists(at_limit)));
                let update = diesel::update(user)
                    .set((
                        users::last_login_at.eq(row.created_at),
                        users::password_hash.eq(hash),
                    ))
                    .returning((users::roles, users::session_epoch));
                let found: Option<(String, i64)> =
                    Prepared(update).get_result(conn).await.optional()?;
                let Some((roles, epoch)) = found else {
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
                if let Some(proof) = login.proof
                    && !use_proof!(conn, proof, &row.user_id, now)
                {
                    // An error, so that nothing is committed.
                    return Err(StoreError::Conflict);
                }
                row.session_epoch = Some(epochs::of_new_session(now, epoch));
                let others = conn
                    .insert_session(&row, &event, epoch, now, window)
                    .await?;
                let mail_queued = match &mail {
                    Some(mail) => queue_new_device_mail!(conn, mail),
                    None => false,
                };
                if login.clear {
                    diesel::delete(login_failures::table.find(login.counter))
                        .execute(conn)
                        .await?;
                }
                let (ended, is_partial) = if others >= i64::from(login.max_sessions.get()) {
                    end_oldest!(conn, login, row, epoch, now, window)
                } else {
                    (Vec::new(), false)
                };
                Ok(Opening::Opened(OpenedSession {
                    roles: Roles::from_stored(&roles),
                    issued_after: Timestamp::from_micros(epochs::of_new_session(now, epoch)),
                    ended,
                    is_partial,
                    mail_queued,
                }))
            })
            .await
        });
        let opening = match opened {
            Err(StoreError::Conflict) if has_proof => return Ok(Opening::ProofRefused),
            opened => opened?,
        };
        if matches!(&opening, Opening::Opened(opened) if opened.mail_queued) {
            self.mail_queued.notify_one();
        }
        Ok(opening)
    }
}

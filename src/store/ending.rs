//! Ending the sessions of a user: what the transactions that do so have in common. Each begins by locking the
//! user's row, as a login does, so that no session slips through between the two.

use std::time::Duration;

use diesel::prelude::*;

use super::{AuditEvent, StoreError, audit::AuditEventRow, sessions::parse_session_id};
use crate::{
    clock::Timestamp,
    config::LONGEST_REFRESH_GRACE,
    domain::{PositionedRevocation, Revocation, UserId},
};

/// Sessions that were ended together.
#[derive(Clone, Debug)]
pub struct EndedSessions {
    /// What tells every replica.
    pub revocations: Vec<PositionedRevocation>,
    /// How many of them could still have been refreshed.
    pub count: usize,
}

/// A session that was just ended.
#[derive(Queryable)]
pub(super) struct EndedSession {
    id: String,
    rotated_at: i64,
    idle_expires_at: i64,
    absolute_expires_at: i64,
}

impl EndedSession {
    /// None of its access tokens bears a later time than this, whatever clock its replica has: after the last
    /// rotation tokens are issued within the time of grace alone, which is counted by the same clock.
    fn last_issue(&self) -> Timestamp {
        Timestamp::from_micros(self.rotated_at) + LONGEST_REFRESH_GRACE
    }

    /// When it would have ended.
    fn end(&self) -> Timestamp {
        Timestamp::from_micros(self.idle_expires_at.min(self.absolute_expires_at))
    }

    fn revocation(&self, now: Timestamp, remember: Duration) -> Result<Revocation, StoreError> {
        let id = parse_session_id(&self.id)?;
        let expires_at = now.max(self.last_issue()) + remember;
        Ok(Revocation::of_session(id, now, expires_at))
    }
}

/// Ends those of `$sessions` that were not ended before, and returns them. A macro, because diesel's queries
/// cannot be written once for both kinds of connection in a function.
macro_rules! end_open {
    ($conn:expr, $sessions:expr, $now:expr) => {{
        let open = $sessions.filter(sessions::revoked_at.is_null());
        let ended: Vec<$crate::store::ending::EndedSession> = diesel::update(open)
            .set(sessions::revoked_at.eq($now.micros()))
            .returning((
                sessions::id,
                sessions::rotated_at,
                sessions::idle_expires_at,
                sessions::absolute_expires_at,
            ))
            .get_results($conn)
            .await?;
        ended
    }};
}

pub(super) use end_open;

/// The revocations of all tokens of a user whose sessions have all been ended.
///
/// That of the user kills what was issued before this millisecond. Sessions that may have issued a token later, in this
/// millisecond or by a clock that runs ahead, are revoked by themselves.
pub(super) fn revocations_of_user(
    id: UserId,
    ended: &[EndedSession],
    now: Timestamp,
    remember: Duration,
) -> Result<Vec<Revocation>, StoreError> {
    let of_user = Revocation::of_user(id, now, now + remember);
    let late = ended
        .iter()
        .filter(|session| session.last_issue() >= of_user.not_before)
        .map(|session| session.revocation(now, remember));
    late.chain([Ok(of_user)]).collect()
}

/// The revocations of those ended sessions that may have a live token, one for each.
pub(super) fn revocations_of_sessions(
    ended: &[EndedSession],
    now: Timestamp,
    remember: Duration,
) -> Result<Vec<Revocation>, StoreError> {
    ended
        .iter()
        .filter(|session| session.last_issue() + remember > now)
        .map(|session| session.revocation(now, remember))
        .collect()
}

/// How many of the ended sessions could still have been refreshed.
pub(super) fn count_live(ended: &[EndedSession], now: Timestamp) -> usize {
    ended.iter().filter(|session| session.end() > now).count()
}

/// The event, as one that befell this user.
pub(super) fn of_user(event: &AuditEvent, id: UserId) -> AuditEventRow {
    let mut row = event.to_row();
    row.user_id = Some(id.to_string());
    row
}

//! Ending the sessions of a user: what the transactions that do so have in common. Each begins by locking the
//! user's row, as a login does, so that no session slips through between the two.

use std::time::Duration;

use diesel::prelude::*;

use super::{StoreError, sessions::parse_session_id};
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
    /// When it would have ended.
    fn end(&self) -> Timestamp {
        Timestamp::from_micros(self.idle_expires_at.min(self.absolute_expires_at))
    }

    fn revocation(&self, now: Timestamp, remember: Duration) -> Result<Revocation, StoreError> {
        let id = parse_session_id(&self.id)?;
        let expires_at = now.max(last_issue(self.rotated_at)) + remember;
        Ok(Revocation::of_session(id, now, expires_at))
    }
}

/// When a session that was last rotated then issued its last access token at the latest: within the time of grace it is
/// done again, without a rotation and by the clock of whoever does it.
pub(super) fn last_issue(rotated_at: i64) -> Timestamp {
    Timestamp::from_micros(rotated_at) + LONGEST_REFRESH_GRACE
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

/// The revocations of all tokens of a user whose sessions have all been ended: of the user, and of the sessions, since a
/// replica whose clock runs ahead dates its tokens later than the first of these.
pub(super) fn revocations_of_user(
    id: UserId,
    ended: &[EndedSession],
    now: Timestamp,
    remember: Duration,
) -> Result<Vec<Revocation>, StoreError> {
    let mut revocations = revocations_of_sessions(ended, now, remember)?;
    revocations.push(Revocation::of_user(id, now, now + remember));
    Ok(revocations)
}

/// The revocations of those ended sessions that may have a live token, one for each.
pub(super) fn revocations_of_sessions(
    ended: &[EndedSession],
    now: Timestamp,
    remember: Duration,
) -> Result<Vec<Revocation>, StoreError> {
    ended
        .iter()
        .filter(|session| last_issue(session.rotated_at) + remember > now)
        .map(|session| session.revocation(now, remember))
        .collect()
}

/// How many of the ended sessions could still have been refreshed.
pub(super) fn count_live(ended: &[EndedSession], now: Timestamp) -> usize {
    ended.iter().filter(|session| session.end() > now).count()
}

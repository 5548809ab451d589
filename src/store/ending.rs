//! Ending the sessions of a user: what the transactions that do so have in common. Each begins by locking the
//! user's row, as a login does, so that no session slips through between the two.

use std::time::Duration;

use diesel::prelude::*;

use super::{StoreError, sessions::parse_session_id};
use crate::{
    clock::Timestamp,
    config::LONGEST_REFRESH_GRACE,
    domain::{LONGEST_ALLOWANCE, PositionedRevocation, Revocation, UserId},
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
    Timestamp::from_micros(rotated_at) + LONGEST_REFRESH_GRACE + LONGEST_ALLOWANCE
}

/// Ends every session of a user but the one that is `$kept`: the rest of a transaction that holds the lock on the user's
/// row. A macro, because diesel's queries cannot be written once for both kinds of connection in a function.
macro_rules! end_sessions {
    ($conn:expr, $id:expr, $kept:expr, $now:expr, $remember:expr, $event:expr) => {{
        let (id, kept): (UserId, Option<SessionId>) = ($id, $kept);
        let open = sessions::table
            .filter(sessions::user_id.eq(id.to_string()))
            .filter(sessions::id.ne(kept.map_or_else(String::new, |kept| kept.to_string())))
            .filter(sessions::revoked_at.is_null());
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
        diesel::insert_into(audit_events::table)
            .values($event)
            .execute($conn)
            .await?;
        let user = kept.is_none().then_some(id);
        let revocations = $crate::store::ending::revocations(user, &ended, $now, $remember)?;
        $crate::store::EndedSessions {
            count: $crate::store::ending::count_live(&ended, $now),
            revocations: append_revocations!($conn, revocations),
        }
    }};
}

pub(super) use end_sessions;

/// The revocations of those ended sessions that may have a live token, one for each, and of the user if all were ended.
///
/// The user's goes by the time of issue, and a replica whose clock runs ahead dates its tokens later; without the
/// user's, nobody who follows revocations could tell that all were meant.
pub(super) fn revocations(
    user: Option<UserId>,
    ended: &[EndedSession],
    now: Timestamp,
    remember: Duration,
) -> Result<Vec<Revocation>, StoreError> {
    let of_user = user.map(|id| Revocation::of_user(id, now, now + remember));
    ended
        .iter()
        .filter(|session| last_issue(session.rotated_at) + remember > now)
        .map(|session| session.revocation(now, remember))
        .chain(of_user.map(Ok))
        .collect()
}

/// How many of the ended sessions could still have been refreshed.
pub(super) fn count_live(ended: &[EndedSession], now: Timestamp) -> usize {
    ended.iter().filter(|session| session.end() > now).count()
}

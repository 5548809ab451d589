//! Ending all sessions of a user in one small transaction, however many there are.
//!
//! Raising the user's epoch ends them. The transaction also revokes the newest [`FIRST_BATCH`] rows one by one, which is
//! all of them for nearly every user; [`sweeps`](super::sweeps) does the rest in the background. Each such transaction
//! begins by locking the user's row, as a login does, so that no session is opened in between.

use std::time::Duration;

use diesel::prelude::*;

use crate::{
    clock::Timestamp,
    config::LONGEST_REFRESH_GRACE,
    domain::{LONGEST_ALLOWANCE, PositionedRevocation, Revocation, SessionId, UserId},
    store::{StoreError, ids::parse_session_id},
};

/// Rows that the transaction itself revokes, the newest first. More than `COUNTERSIGN_MAX_SESSIONS_PER_USER` has by
/// default, and few enough to take milliseconds.
pub(in crate::store) const FIRST_BATCH: usize = 250;

/// Up to how many ended sessions are counted.
pub(in crate::store) const MAX_COUNT: usize = 1_000;

/// Sessions that were ended together.
#[derive(Clone, Debug, Default)]
pub struct EndedSessions {
    /// What tells every replica.
    pub revocations: Vec<PositionedRevocation>,
    /// How many of them could still have been refreshed; no more than 1,000 are counted.
    pub count: usize,
    /// Whether there are rows that a sweep has to revoke (see [`Store::claim_sweep`](crate::store::Store::claim_sweep)).
    pub is_partial: bool,
}

/// Which sessions of a user end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Scope {
    /// All.
    All,
    /// All but this one.
    AllBut(SessionId),
    /// All; another is opened in the same transaction.
    Replaced,
}

impl Scope {
    /// The session that does not end.
    pub(in crate::store) const fn kept(self) -> Option<SessionId> {
        match self {
            Self::AllBut(id) => Some(id),
            Self::All | Self::Replaced => None,
        }
    }

    /// Whether the user's tokens are revoked by their time of issue as well. `is_partial` says that there are more
    /// sessions than the transaction revokes one by one.
    const fn revokes_user(self, is_partial: bool) -> bool {
        match self {
            Self::All => true,
            // It would revoke the kept session's tokens, too.
            Self::AllBut(_) => false,
            // A replica whose clock runs behind would date the new session's next tokens before it: only when needed.
            Self::Replaced => is_partial,
        }
    }
}

/// An ending under way: whose sessions end, which and when.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Ending {
    pub(in crate::store) user: UserId,
    pub(in crate::store) scope: Scope,
    /// The user's epoch before.
    pub(in crate::store) epoch: i64,
    pub(in crate::store) now: Timestamp,
    /// How long the last access token may live, counted from its session's last rotation.
    pub(in crate::store) remember: Duration,
}

/// A session that was just ended, or may have to be.
#[derive(Clone, Debug, Queryable)]
pub(in crate::store) struct EndedSession {
    pub(in crate::store) id: String,
    rotated_at: i64,
    idle_expires_at: i64,
    absolute_expires_at: i64,
}

impl EndedSession {
    /// Whether it could still have been refreshed.
    pub(in crate::store) fn is_live(&self, now: Timestamp) -> bool {
        self.idle_expires_at.min(self.absolute_expires_at) > now.micros()
    }

    /// Whether an access token of it may still be accepted.
    pub(in crate::store) fn may_have_token(&self, now: Timestamp, remember: Duration) -> bool {
        self.last_issue() + remember > now
    }

    /// When its last access token was issued at the latest.
    pub(in crate::store) fn last_issue(&self) -> Timestamp {
        last_issue(self.rotated_at)
    }

    /// What revokes its access tokens.
    pub(in crate::store) fn revocation(
        &self,
        now: Timestamp,
        remember: Duration,
    ) -> Result<Revocation, StoreError> {
        let id = parse_session_id(&self.id)?;
        let expires_at = now.max(self.last_issue()) + remember;
        Ok(Revocation::of_session(id, now, expires_at))
    }
}

/// When a session that was last rotated at `rotated_at` issued its last access token at the latest: within the grace
/// period another is issued without a rotation, by the clock of whichever replica does it.
pub(in crate::store) fn last_issue(rotated_at: i64) -> Timestamp {
    Timestamp::from_micros(rotated_at) + LONGEST_REFRESH_GRACE + LONGEST_ALLOWANCE
}

/// The revocations that a first batch of ended sessions needs: of each session that may have a live token, and of the
/// user where all sessions end, up to the new `epoch`.
///
/// The user's goes by the time of issue, and a replica whose clock runs ahead dates its tokens later, so it does not
/// make the others superfluous; it covers the sessions beyond the batch.
pub(in crate::store) fn revocations(
    ending: &Ending,
    epoch: i64,
    ended: &[EndedSession],
) -> Result<Vec<Revocation>, StoreError> {
    let Ending { now, remember, .. } = *ending;
    let of_user = ending.scope.revokes_user(is_partial(ended)).then(|| {
        // The sessions that end are dated up to a millisecond after their epochs, which lie before this one.
        let end = Timestamp::from_micros(epoch) + Duration::from_millis(1);
        Revocation {
            created_at: now,
            ..Revocation::of_user(ending.user, end, now.max(end) + remember)
        }
    });
    ended
        .iter()
        .filter(|session| session.may_have_token(now, remember))
        .map(|session| session.revocation(now, remember))
        .chain(of_user.map(Ok))
        .collect()
}

/// Whether more rows than the first batch may have to be revoked.
pub(in crate::store) const fn is_partial(ended: &[EndedSession]) -> bool {
    ended.len() >= FIRST_BATCH
}

/// Up to when the revocation of the user covers every access token; 0 when there is none.
pub(in crate::store) fn covered_until(revocations: &[Revocation], user: UserId) -> i64 {
    let of_user = Revocation::of_user(user, Timestamp::default(), Timestamp::default()).subject;
    let found = revocations
        .iter()
        .find(|revocation| revocation.subject == of_user);
    found.map_or(0, |revocation| revocation.not_before.micros())
}

/// How many of the sessions could still have been refreshed.
pub(in crate::store) fn count_live(sessions: &[EndedSession], now: Timestamp) -> usize {
    sessions
        .iter()
        .filter(|session| session.is_live(now))
        .count()
}

/// The columns of an [`EndedSession`].
macro_rules! ended_session {
    () => {
        (
            sessions::id,
            sessions::rotated_at,
            sessions::idle_expires_at,
            sessions::absolute_expires_at,
        )
    };
}

/// Raises a user's epoch beyond every session but the one that is kept, and returns it: from the commit on they have
/// ended. The transaction holds the lock on the user's row. A macro, as diesel's queries cannot be written once for both
/// kinds of connection in a function.
macro_rules! raise_epoch {
    ($conn:expr, $ending:expr) => {{
        use $crate::store::sessions::epochs::{self, session_epoch};
        let ending: $crate::store::sessions::ending::Ending = $ending;
        let user = ending.user.to_string();
        let newest: Option<i64> = sessions::table
            .filter(sessions::user_id.eq(&user))
            .filter(sessions::revoked_at.is_null())
            .select(session_epoch())
            .order(session_epoch().desc())
            .limit(1)
            .get_result($conn)
            .await
            .optional()?;
        let epoch = epochs::after_all(ending.now, ending.epoch, newest);
        diesel::update(users::table.find(&user))
            .set(users::session_epoch.eq(epoch))
            .execute($conn)
            .await?;
        if let Some(kept) = ending.scope.kept() {
            // Not one that had ended before.
            let kept = sessions::table
                .find(kept.to_string())
                .filter(session_epoch().ge(ending.epoch));
            diesel::update(kept)
                .set(sessions::session_epoch.eq(epoch))
                .execute($conn)
                .await?;
        }
        epoch
    }};
}

/// Revokes the sessions that the new `$epoch` has ended, or the newest [`FIRST_BATCH`] of them, records `$event` and tells
/// the replicas: the end of the transaction. Returns the [`EndedSessions`].
macro_rules! revoke_ended {
    ($conn:expr, $ending:expr, $epoch:expr, $event:expr) => {{
        use $crate::store::sessions::{
            ending::{self, EndedSession, Ending, ended_session},
            epochs::session_epoch,
        };
        let ending: Ending = $ending;
        let user = ending.user.to_string();
        let open = |limit: usize| {
            sessions::table
                .filter(sessions::user_id.eq(user.clone()))
                .filter(sessions::revoked_at.is_null())
                .filter(session_epoch().ge(ending.epoch))
                .filter(session_epoch().lt($epoch))
                .order((session_epoch().desc(), sessions::id.desc()))
                .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        };
        let first: Vec<String> = open(ending::FIRST_BATCH)
            .select(sessions::id)
            .load($conn)
            .await?;
        let ended: Vec<EndedSession> =
            diesel::update(sessions::table.filter(sessions::id.eq_any(first)))
                .set(sessions::revoked_at.eq(ending.now.micros()))
                .returning(ended_session!())
                .get_results($conn)
                .await?;
        let mut count = ending::count_live(&ended, ending.now);
        let revocations = ending::revocations(&ending, $epoch, &ended)?;
        let is_partial = ending::is_partial(&ended);
        if is_partial {
            let others: Vec<EndedSession> = open(ending::MAX_COUNT)
                .select(ended_session!())
                .load($conn)
                .await?;
            count += ending::count_live(&others, ending.now);
            let covered_until = ending::covered_until(&revocations, ending.user);
            $crate::store::sessions::sweeps::request_sweep!($conn, user, ending.now, covered_until);
        }
        diesel::insert_into(audit_events::table)
            .values($event)
            .execute($conn)
            .await?;
        $crate::store::EndedSessions {
            revocations: append_revocations!($conn, revocations),
            count: count.min(ending::MAX_COUNT),
            is_partial,
        }
    }};
}

pub(in crate::store) use {ended_session, raise_epoch, revoke_ended};

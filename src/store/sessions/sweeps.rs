//! Bringing the rows of ended sessions in line, in batches, after the transaction that ended them (see `ending`).
//!
//! What is left to do stands in the table `session_sweeps`, so that any replica goes on after a crash. A replica claims a
//! user for a while; should two work at the same user, each batch still locks the user's row first, and revokes only
//! what is not revoked yet.

use std::{num::NonZeroU32, time::Duration};

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};

use crate::{
    clock::Timestamp,
    domain::{PositionedRevocation, UserId},
    store::{
        Store, StoreError,
        ids::parse_user_id,
        read,
        revocations::records::append_revocations,
        revoke,
        schema::{session_sweeps, sessions, users},
        sessions::{
            ending::{EndedSession, ended_session},
            epochs::session_epoch,
        },
        write,
    },
};

/// Rows of one transaction.
const BATCH: usize = 500;

/// How long a replica has a user for itself.
const CLAIM: Duration = Duration::from_secs(10);

/// A user whose ended sessions have to be revoked row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sweep {
    /// Whose sessions.
    pub user: UserId,
    /// When they were ended.
    requested_at: Timestamp,
    /// Access tokens issued up to this moment are revoked by the user's revocation.
    covered_until: Timestamp,
}

/// What one batch did.
#[derive(Clone, Debug)]
pub struct SweptBatch {
    /// What tells every replica.
    pub revocations: Vec<PositionedRevocation>,
    /// Rows that were revoked.
    pub rows: usize,
    /// Whether nothing is left to do for that user.
    pub is_last: bool,
}

/// Notes that a user has ended sessions whose rows do not say so. Within the transaction that ended them.
macro_rules! request_sweep {
    ($conn:expr, $user:expr, $now:expr, $covered_until:expr) => {{
        use $crate::store::schema::session_sweeps;
        let (now, covered_until): ($crate::clock::Timestamp, i64) = ($now, $covered_until);
        let insert = diesel::insert_into(session_sweeps::table)
            .values((
                session_sweeps::user_id.eq($user.clone()),
                session_sweeps::requested_at.eq(now.micros()),
                session_sweeps::covered_until.eq(covered_until),
                session_sweeps::claimed_until.eq(0_i64),
            ))
            .on_conflict(session_sweeps::user_id)
            .do_update();
        let requested = session_sweeps::requested_at.eq(now.micros());
        if covered_until == 0 {
            // What covered earlier endings still does.
            insert.set(requested).execute($conn).await?;
        } else {
            let covered = session_sweeps::covered_until.eq(covered_until);
            insert.set((requested, covered)).execute($conn).await?;
        }
    }};
}

pub(in crate::store) use request_sweep;

impl Store {
    /// Completes when an operation of this process has left rows to sweep; at once if one has since the last time.
    pub async fn sweep_requested(&self) {
        self.sweep_requested.notified().await;
    }

    /// Wakes whoever waits for rows to sweep.
    pub fn request_sweep_if(&self, is_needed: bool) {
        if is_needed {
            self.sweep_requested.notify_one();
        }
    }

    /// Claims the next user whose rows have to follow; `None` when there is none, or another replica is at it.
    pub async fn claim_sweep(&self, now: Timestamp) -> Result<Option<Sweep>, StoreError> {
        let claimed_until = (now + CLAIM).micros();
        // A claim beyond that was written by a clock that ran ahead.
        let is_free = || {
            session_sweeps::claimed_until
                .le(now.micros())
                .or(session_sweeps::claimed_until.gt(claimed_until))
        };
        let next: Option<(String, i64, i64)> = read!(self, |conn| {
            Ok(session_sweeps::table
                .filter(is_free())
                .order(session_sweeps::requested_at)
                .limit(1)
                .select((
                    session_sweeps::user_id,
                    session_sweeps::requested_at,
                    session_sweeps::covered_until,
                ))
                .get_result(conn)
                .await
                .optional()?)
        })?;
        let Some((user, requested_at, covered_until)) = next else {
            return Ok(None);
        };
        let free = session_sweeps::table.find(user.clone()).filter(is_free());
        let claim = diesel::update(free).set(session_sweeps::claimed_until.eq(claimed_until));
        if write!(self, |conn| Ok(claim.execute(conn).await?))? == 0 {
            return Ok(None);
        }
        Ok(Some(Sweep {
            user: parse_user_id(&user)?,
            requested_at: Timestamp::from_micros(requested_at),
            covered_until: Timestamp::from_micros(covered_until),
        }))
    }

    /// Revokes the next rows of a user's ended sessions, and those of live sessions beyond the newest `max_sessions`.
    /// The last batch forgets the request.
    pub async fn sweep_sessions(
        &self,
        sweep: Sweep,
        max_sessions: NonZeroU32,
        now: Timestamp,
        remember: Duration,
    ) -> Result<SweptBatch, StoreError> {
        let user = sweep.user.to_string();
        let batch = i64::try_from(BATCH).unwrap_or(i64::MAX);
        revoke!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                let lock = diesel::update(users::table.find(&user))
                    .set(users::updated_at.eq(users::updated_at))
                    .returning(users::session_epoch);
                let epoch: Option<i64> = lock.get_result(conn).await.optional()?;
                // Without its user there are neither sessions nor requests.
                let epoch = epoch.unwrap_or(i64::MAX);
                let open = || {
                    sessions::table
                        .filter(sessions::user_id.eq(&user))
                        .filter(sessions::revoked_at.is_null())
                        .order((session_epoch().desc(), sessions::id.desc()))
                        .select(sessions::id)
                };
                let mut ids: Vec<String> = open()
                    .filter(session_epoch().lt(epoch))
                    .limit(batch)
                    .load(conn)
                    .await?;
                if ids.len() < BATCH {
                    let excess: Vec<String> = open()
                        .filter(session_epoch().ge(epoch))
                        .filter(sessions::idle_expires_at.gt(now.micros()))
                        .filter(sessions::absolute_expires_at.gt(now.micros()))
                        .offset(max_sessions.get().into())
                        .limit(batch - i64::try_from(ids.len()).unwrap_or_default())
                        .load(conn)
                        .await?;
                    ids.extend(excess);
                }
                let is_last = ids.len() < BATCH;
                let rows: Vec<EndedSession> =
                    diesel::update(sessions::table.filter(sessions::id.eq_any(&ids)))
                        .set(sessions::revoked_at.eq(sweep.requested_at.micros()))
                        .returning(ended_session!())
                        .get_results(conn)
                        .await?;
                let request = session_sweeps::table.find(&user);
                if is_last {
                    diesel::delete(request).execute(conn).await?;
                } else {
                    diesel::update(request)
                        .set(session_sweeps::claimed_until.eq((now + CLAIM).micros()))
                        .execute(conn)
                        .await?;
                }
                let revocations = rows
                    .iter()
                    .filter(|session| session.last_issue() > sweep.covered_until)
                    .filter(|session| session.may_have_token(now, remember))
                    .map(|session| session.revocation(now, remember))
                    .collect::<Result<Vec<_>, _>>()?;
                let revocations = if revocations.is_empty() {
                    Vec::new()
                } else {
                    append_revocations!(conn, revocations)
                };
                Ok(SweptBatch {
                    revocations,
                    rows: rows.len(),
                    is_last,
                })
            })
            .await
        })
    }
}

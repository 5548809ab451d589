//! How long rows are kept once nobody needs them, and their deletion in batches.

use std::{future::Future, time::Duration};

use diesel::{dsl::max, prelude::*};
use diesel_async::RunQueryDsl;
use tokio::time::sleep;

use crate::{
    clock::{Timestamp, monotonic_now},
    domain::uuid_v7,
    store::{
        Store, StoreError, read,
        schema::{
            audit_events, login_failures, mails, revocations, service_keys, sessions,
            used_challenges,
        },
        write,
    },
};

/// Sessions that have ended stay readable for a while, so that an old token is told from an unknown one.
const ENDED_SESSIONS: Duration = Duration::from_secs(7 * 24 * 3600);
/// Mails that were sent stay until no other of the same slot can be asked for, and those about new devices are counted for a
/// day.
const SENT_MAILS: Duration = Duration::from_secs(25 * 3600);
/// Mails that were given up stay for an administrator.
const FAILED_MAILS: Duration = Duration::from_secs(30 * 24 * 3600);
/// Attempts are held against an account for a day after the last one.
const LOGIN_FAILURES: Duration = Duration::from_secs(24 * 3600);
/// What is known about a challenge stays a while longer than the challenge is good, for replicas whose clocks run behind.
const USED_CHALLENGES: Duration = Duration::from_secs(3600);

/// Expired service keys stay listed for a while. Readers of the directory use the same time.
pub(super) const EXPIRED_KEYS: Duration = Duration::from_secs(7 * 24 * 3600);

/// Rows deleted by one transaction: few enough that it takes milliseconds, on SQLite too, where all writers wait for it.
const BATCH: usize = 500;
/// Between two batches others have the database for as long as the last one took, and at least for this long.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);

/// Deletes up to [`BATCH`] stale rows, first those that `$order` puts first. A macro, because diesel's queries are of a
/// different type each.
macro_rules! delete_batch {
    ($store:expr, $table:ident, $key:ident, $is_stale:expr, $order:expr) => {{
        let batch = $table::table
            .filter($is_stale)
            .order($order)
            .limit(i64::try_from(BATCH).unwrap_or(i64::MAX))
            .select($table::$key);
        let keys: Vec<String> = read!($store, |conn| Ok(batch.load(conn).await?))?;
        if keys.is_empty() {
            return Ok(0);
        }
        // A row may have changed since.
        let stale = $table::table
            .filter($table::$key.eq_any(keys))
            .filter($is_stale);
        write!($store, |conn| Ok(diesel::delete(stale)
            .execute(conn)
            .await?))
    }};
}

impl Store {
    /// Deletes everything that has outlived its use, in batches, and says how many rows that were. However many there
    /// are, other operations come in between. Two replicas may do it at once.
    ///
    /// # Errors
    /// A batch failed; those before it stay deleted.
    pub async fn purge(&self, now: Timestamp) -> Result<usize, StoreError> {
        in_batches(|| self.redate_counters(now, LOGIN_FAILURES, BATCH)).await?;
        Ok(self.purge_revocations(now).await?
            + in_batches(|| self.purge_expired_sessions(now)).await?
            + in_batches(|| self.purge_revoked_sessions(now)).await?
            + in_batches(|| self.purge_login_failures(now)).await?
            + in_batches(|| self.purge_service_keys(now)).await?
            + in_batches(|| self.purge_audit_events(now)).await?
            + in_batches(|| self.purge_sent_mails(now)).await?
            + in_batches(|| self.purge_failed_mails(now)).await?
            + in_batches(|| self.purge_used_challenges(now)).await?)
    }

    async fn purge_used_challenges(&self, now: Timestamp) -> Result<usize, StoreError> {
        let oldest_kept = (now - USED_CHALLENGES).micros();
        let end = used_challenges::expires_at;
        delete_batch!(self, used_challenges, id, end.le(oldest_kept), end)
    }

    async fn purge_service_keys(&self, now: Timestamp) -> Result<usize, StoreError> {
        let oldest_kept = (now - EXPIRED_KEYS).micros();
        let end = service_keys::expires_at;
        delete_batch!(self, service_keys, id, end.le(oldest_kept), end)
    }

    async fn purge_revocations(&self, now: Timestamp) -> Result<usize, StoreError> {
        // The newest revocation stays: the position of the next one must lie beyond it, and a reader that
        // no longer finds it knows that the table was put back to an earlier state.
        let newest: Option<i64> = read!(self, |conn| {
            Ok(revocations::table
                .select(max(revocations::position))
                .get_result(conn)
                .await?)
        })?;
        let newest = newest.unwrap_or(i64::MIN);
        in_batches(|| self.purge_revocations_before(now, newest)).await
    }

    async fn purge_revocations_before(
        &self,
        now: Timestamp,
        newest: i64,
    ) -> Result<usize, StoreError> {
        let is_stale = || {
            revocations::expires_at
                .le(now.micros())
                .and(revocations::position.lt(newest))
        };
        delete_batch!(self, revocations, id, is_stale(), revocations::expires_at)
    }

    async fn purge_expired_sessions(&self, now: Timestamp) -> Result<usize, StoreError> {
        let oldest_kept = (now - ENDED_SESSIONS).micros();
        let end = sessions::absolute_expires_at;
        delete_batch!(self, sessions, id, end.le(oldest_kept), end)
    }

    async fn purge_revoked_sessions(&self, now: Timestamp) -> Result<usize, StoreError> {
        let oldest_kept = (now - ENDED_SESSIONS).micros();
        let end = sessions::revoked_at;
        delete_batch!(self, sessions, id, end.le(oldest_kept), end)
    }

    async fn purge_login_failures(&self, now: Timestamp) -> Result<usize, StoreError> {
        let oldest_kept = (now - LOGIN_FAILURES).micros();
        let end = login_failures::updated_at;
        delete_batch!(self, login_failures, account, end.le(oldest_kept), end)
    }

    async fn purge_sent_mails(&self, now: Timestamp) -> Result<usize, StoreError> {
        let oldest_kept = (now - SENT_MAILS).micros();
        let end = mails::done_at;
        delete_batch!(self, mails, id, end.le(oldest_kept), end)
    }

    async fn purge_failed_mails(&self, now: Timestamp) -> Result<usize, StoreError> {
        let oldest_kept = (now - FAILED_MAILS).micros();
        let end = mails::failed_at;
        let is_stale = || mails::done_at.is_null().and(end.le(oldest_kept));
        delete_batch!(self, mails, id, is_stale(), end)
    }

    async fn purge_audit_events(&self, now: Timestamp) -> Result<usize, StoreError> {
        let oldest_kept = now - self.audit_retention;
        // The ids are UUIDv7, so the oldest are found by their index: one by time would slow down every change.
        let bound = uuid_v7(oldest_kept).to_string();
        let is_stale = || {
            audit_events::id
                .lt(bound.clone())
                .and(audit_events::created_at.lt(oldest_kept.micros()))
        };
        delete_batch!(self, audit_events, id, is_stale(), audit_events::id)
    }
}

/// Repeats a batch until one finds less than its fill.
async fn in_batches<F>(mut batch: impl FnMut() -> F) -> Result<usize, StoreError>
where
    F: Future<Output = Result<usize, StoreError>>,
{
    let mut rows = 0;
    loop {
        let began = monotonic_now();
        let deleted = batch().await?;
        rows += deleted;
        if deleted < BATCH {
            return Ok(rows);
        }
        let took = monotonic_now().saturating_duration_since(began);
        sleep(took.max(SHORTEST_PAUSE)).await;
    }
}

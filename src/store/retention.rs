//! How long rows are kept once nobody needs them.

use std::time::Duration;

use diesel::{dsl::max, prelude::*};
use diesel_async::RunQueryDsl;

use super::{
    Store, StoreError, read,
    schema::{login_failures, revocations, sessions},
    write,
};
use crate::clock::Timestamp;

/// Ended sessions stay readable for a while, so that an old token is still told from an unknown one.
const ENDED_SESSIONS: Duration = Duration::from_secs(7 * 24 * 3600);
/// Attempts are held against an account for a day after the last one.
const LOGIN_FAILURES: Duration = Duration::from_secs(24 * 3600);

impl Store {
    /// Deletes what has outlived its use and says how many rows that were.
    pub async fn purge(&self, now: Timestamp) -> Result<usize, StoreError> {
        // The newest revocation stays: the position of the next one must lie beyond it, and a reader that
        // no longer finds it knows that the table was put back to an earlier state.
        let newest: Option<i64> = read!(self, |conn| {
            Ok(revocations::table
                .select(max(revocations::position))
                .get_result(conn)
                .await?)
        })?;
        let dead_revocations = revocations::table
            .filter(revocations::expires_at.le(now.micros()))
            .filter(revocations::position.lt(newest.unwrap_or(i64::MIN)));
        let dead_sessions = sessions::table
            .filter(sessions::absolute_expires_at.le((now - ENDED_SESSIONS).micros()));
        let stale_failures = login_failures::table
            .filter(login_failures::updated_at.le((now - LOGIN_FAILURES).micros()));
        write!(self, |conn| {
            Ok(diesel::delete(dead_revocations).execute(conn).await?
                + diesel::delete(dead_sessions).execute(conn).await?
                + diesel::delete(stale_failures).execute(conn).await?)
        })
    }
}

//! Failed login attempts per account, counted before the password is even looked at.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{Store, StoreError, read, schema::login_failures, write_lazily};
use crate::clock::Timestamp;

/// How an account stands with its attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttemptState {
    /// Attempts since the last success that failed or are still being judged.
    pub failures: i32,
    /// Before this moment no further attempt is let through.
    pub retry_at: Timestamp,
}

impl Store {
    /// How the account stands; `None` when nothing is held against it.
    pub async fn attempt_state(&self, account: &str) -> Result<Option<AttemptState>, StoreError> {
        let found: Option<(i32, i64)> = read!(self, |conn| {
            Ok(login_failures::table
                .find(account)
                .select((login_failures::failures, login_failures::retry_at))
                .get_result(conn)
                .await
                .optional()?)
        })?;
        Ok(found.map(|(failures, retry_at)| AttemptState {
            failures,
            retry_at: Timestamp::from_micros(retry_at),
        }))
    }

    /// Moves the account from `seen` to `next`, unless another attempt was first. Returns whether it did.
    ///
    /// On SQLite a power cut may undo what was counted since the last forced commit, unless the system wrote it to the
    /// disk by itself: whoever guesses at the account has those attempts once more.
    pub async fn count_attempt(
        &self,
        account: &str,
        seen: Option<AttemptState>,
        next: AttemptState,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let values = (
            login_failures::failures.eq(next.failures),
            login_failures::retry_at.eq(next.retry_at.micros()),
            login_failures::updated_at.eq(now.micros()),
        );
        let changed = match seen {
            None => write_lazily!(self, |conn| {
                Ok(diesel::insert_into(login_failures::table)
                    .values((login_failures::account.eq(account), values))
                    .on_conflict_do_nothing()
                    .execute(conn)
                    .await?)
            })?,
            Some(seen) => {
                let unchanged = login_failures::table
                    .find(account)
                    .filter(login_failures::failures.eq(seen.failures));
                write_lazily!(self, |conn| {
                    Ok(diesel::update(unchanged).set(values).execute(conn).await?)
                })?
            }
        };
        Ok(changed > 0)
    }
}

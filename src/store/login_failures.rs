//! Failed login attempts per account, counted before the password is even looked at.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    Store, StoreError,
    schema::{login_failures, users},
    users::UserRow,
    write_lazily,
};
use crate::{
    clock::Timestamp,
    domain::{Email, User},
};

/// How an account stands with its attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttemptState {
    /// Attempts since the last success that failed or are still being judged.
    pub failures: i32,
    /// Before this moment no further attempt is let through.
    pub retry_at: Timestamp,
}

/// Failures, and when the next attempt is let through.
type Held = (i32, i64);

/// What was deleted between two statements, by a success or because it was old. Whoever goes on from it changes no row,
/// and begins anew.
const FORGOTTEN: Held = (0, 0);

#[derive(Insertable, AsChangeset)]
#[diesel(table_name = login_failures, primary_key(account))]
struct AttemptRow<'a> {
    account: &'a str,
    failures: i32,
    retry_at: i64,
    updated_at: i64,
}

impl<'a> AttemptRow<'a> {
    const fn new(account: &'a str, state: AttemptState, now: Timestamp) -> Self {
        Self {
            account,
            failures: state.failures,
            retry_at: state.retry_at.micros(),
            updated_at: now.micros(),
        }
    }
}

/// What an attempt to log in begins with.
pub struct BegunAttempt {
    /// The user with that address and the stored password hash, if there is one.
    pub credentials: Option<(User, String)>,
    /// What is held against the account already. `None` when it was nothing: then the attempt has been counted.
    pub held: Option<AttemptState>,
}

impl Store {
    /// Looks up who wants to log in, and counts the attempt as `first` unless something is held against the account.
    /// One operation for both: every login takes this way.
    ///
    /// On SQLite a power cut may undo what was counted since the last forced commit, unless the system wrote it to the
    /// disk by itself: whoever guesses at the account has those attempts once more.
    pub async fn begin_attempt(
        &self,
        email: &Email,
        account: &str,
        first: AttemptState,
        now: Timestamp,
    ) -> Result<BegunAttempt, StoreError> {
        let row = AttemptRow::new(account, first, now);
        let (user, held): (Option<(UserRow, String)>, Option<Held>) =
            write_lazily!(self, |conn| {
                let user = users::table
                    .filter(users::email_key.eq(email.key()))
                    .select((UserRow::as_select(), users::password_hash))
                    .get_result(conn)
                    .await
                    .optional()?;
                let counted = diesel::insert_into(login_failures::table)
                    .values(&row)
                    .on_conflict_do_nothing()
                    .execute(conn)
                    .await?;
                if counted > 0 {
                    return Ok((user, None));
                }
                let held = login_failures::table
                    .find(account)
                    .select((login_failures::failures, login_failures::retry_at))
                    .get_result(conn)
                    .await
                    .optional()?;
                Ok((user, Some(held.unwrap_or(FORGOTTEN))))
            })?;
        let credentials = user
            .map(|(row, hash)| Ok::<_, StoreError>((row.try_into()?, hash)))
            .transpose()?;
        Ok(BegunAttempt {
            credentials,
            held: held.map(|(failures, retry_at)| AttemptState {
                failures,
                retry_at: Timestamp::from_micros(retry_at),
            }),
        })
    }

    /// Moves the account from `seen` to `next`, unless another attempt was first. Returns whether it did. What a power
    /// cut may undo is said at [`Self::begin_attempt`].
    pub async fn count_attempt(
        &self,
        account: &str,
        seen: AttemptState,
        next: AttemptState,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let unchanged = login_failures::table
            .find(account)
            .filter(login_failures::failures.eq(seen.failures))
            .filter(login_failures::retry_at.eq(seen.retry_at.micros()));
        let update = diesel::update(unchanged).set(AttemptRow::new(account, next, now));
        let changed = write_lazily!(self, |conn| Ok(update.execute(conn).await?))?;
        Ok(changed > 0)
    }
}

//! Counters of wrong passwords. `domain::FailureCounter` decides what their state means; this file reads and changes them,
//! each change by one statement that names the state it expects.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};

use super::{
    AuditEvent, Store, StoreError, StoredPasskey, StoredTotp,
    passkeys::PasskeyRow,
    read,
    schema::{audit_events, login_failures, passkeys, totp_factors, users},
    totp_factors::TotpRow,
    users::{UserRow, has_email, stored_kinds},
    write,
};
use crate::{
    clock::Timestamp,
    domain::{Email, FactorKinds, FailureCounter, User, UserId},
};

/// Names one counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterKey {
    /// A MAC: it reveals neither the e-mail address nor the device or session.
    pub name: String,
    /// Whose device or session it belongs to; `None` for the counter of an e-mail address.
    pub user_id: Option<UserId>,
}

/// What an attempt begins with.
pub struct Credentials {
    /// The user, if there is one.
    pub user: Option<UserCredentials>,
    /// Whether that user has logged in before.
    pub has_logged_in: bool,
    /// The counter that was asked for.
    pub key: CounterKey,
    /// Its state; `None` when it has no failures.
    pub counter: Option<FailureCounter>,
}

/// What a user is judged by.
#[derive(Clone, Debug)]
pub struct UserCredentials {
    /// The user.
    pub user: User,
    /// The stored hash of the password.
    pub password_hash: String,
    /// The kinds of second factors that the user has.
    pub factors: FactorKinds,
    /// The authenticator app, if the user has one and it was asked for.
    pub totp: Option<StoredTotp>,
    /// The passkey by which the user was found.
    pub passkey: Option<StoredPasskey>,
}

/// What became of a wrong password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// It was counted.
    Counted,
    /// It was not, because other attempts brought the counter to the bound. This is its state.
    BeyondBound(FailureCounter),
}

/// A wrong password to be counted.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// The counter.
    pub key: &'a CounterKey,
    /// It is counted only while fewer failures than this are counted.
    pub below: u32,
    /// The moment before which no attempt is admitted once the limit is reached.
    pub retry_at: Timestamp,
    /// When it was judged.
    pub at: Timestamp,
}

#[derive(Insertable)]
#[diesel(table_name = login_failures, treat_none_as_default_value = false)]
struct CounterRow<'a> {
    account: &'a str,
    failures: i32,
    retry_at: i64,
    updated_at: i64,
    user_id: Option<String>,
}

/// The columns that hold a counter's state.
pub(super) type StateColumns = (i32, i64);

/// A counter from its columns.
pub(super) fn state((failures, retry_at): StateColumns) -> FailureCounter {
    FailureCounter {
        failures: u32::try_from(failures).unwrap_or(0),
        retry_at: Timestamp::from_micros(retry_at),
    }
}

/// A number of failures as it is stored.
pub(super) fn stored(failures: u32) -> i32 {
    i32::try_from(failures).unwrap_or(i32::MAX)
}

/// Reads a counter on a connection.
macro_rules! find_counter {
    ($conn:expr, $name:expr) => {{
        let found: Option<StateColumns> = login_failures::table
            .find($name)
            .select((login_failures::failures, login_failures::retry_at))
            .get_result($conn)
            .await
            .optional()?;
        found.map(state)
    }};
}

impl Store {
    /// Looks up who wants to log in, and the counter that `choose` names for that user, or for nobody. One operation
    /// and as many statements, whether the address is registered or not.
    pub async fn find_credentials(
        &self,
        email: &Email,
        choose: impl Fn(Option<UserId>) -> CounterKey + Send + Sync,
    ) -> Result<Credentials, StoreError> {
        let (key, legacy_key) = (&email.key(), &email.legacy_key());
        read!(self, |conn| {
            let found: Option<(UserRow, String, Option<i64>, Option<String>)> = users::table
                .filter(has_email(key, legacy_key))
                .order(users::email_key.eq(legacy_key).desc())
                .select((
                    UserRow::as_select(),
                    users::password_hash,
                    users::last_login_at,
                    users::factor_kinds,
                ))
                .get_result(conn)
                .await
                .optional()?;
            let found = found.map(|(user, hash, login, kinds)| (user, hash, login, kinds, None));
            let (user, has_logged_in) = credentials(found)?;
            let key = choose(user.as_ref().map(|found| found.user.id));
            let counter = find_counter!(conn, &key.name);
            Ok(Credentials {
                user,
                has_logged_in,
                key,
                counter,
            })
        })
    }

    /// The same for whoever has the passkey with that id of its authenticator.
    pub async fn find_credentials_by_passkey(
        &self,
        credential_id: &[u8],
        choose: impl Fn(Option<&User>) -> CounterKey + Send + Sync,
    ) -> Result<Credentials, StoreError> {
        read!(self, |conn| {
            type Row = (PasskeyRow, UserRow, String, Option<i64>, Option<String>);
            let found: Option<Row> = passkeys::table
                .inner_join(users::table)
                .filter(passkeys::credential_id.eq(credential_id))
                .select((
                    PasskeyRow::as_select(),
                    UserRow::as_select(),
                    users::password_hash,
                    users::last_login_at,
                    users::factor_kinds,
                ))
                .get_result(conn)
                .await
                .optional()?;
            let (user, has_logged_in) = match found {
                None => (None, false),
                Some((passkey, user, hash, last_login, kinds)) => {
                    let passkey = Some(StoredPasskey::try_from(passkey)?);
                    let (user, has_logged_in) =
                        credentials(Some((user, hash, last_login, kinds, None)))?;
                    let user = user.map(|user| UserCredentials { passkey, ..user });
                    (user, has_logged_in)
                }
            };
            let key = choose(user.as_ref().map(|found| &found.user));
            let counter = find_counter!(conn, &key.name);
            Ok(Credentials {
                user,
                has_logged_in,
                key,
                counter,
            })
        })
    }

    /// The same for a user who is known by id, with the authenticator app.
    pub async fn find_credentials_of(
        &self,
        id: UserId,
        key: &CounterKey,
    ) -> Result<Credentials, StoreError> {
        read!(self, |conn| {
            let found: Option<CredentialsRow> = users::table
                .left_join(totp_factors::table)
                .filter(users::id.eq(id.to_string()))
                .select((
                    UserRow::as_select(),
                    users::password_hash,
                    users::last_login_at,
                    users::factor_kinds,
                    Option::<TotpRow>::as_select(),
                ))
                .get_result(conn)
                .await
                .optional()?;
            let (user, has_logged_in) = credentials(found)?;
            Ok(Credentials {
                user,
                has_logged_in,
                key: key.clone(),
                counter: find_counter!(conn, &key.name),
            })
        })
    }

    /// Counts a wrong password, unless the counter is at the bound.
    ///
    /// Each statement is atomic: parallel failures, on any number of replicas, are each counted once, and never beyond
    /// the bound.
    pub async fn count_failure(&self, failure: Failure<'_>) -> Result<Counting, StoreError> {
        let first = CounterRow {
            account: &failure.key.name,
            failures: 1,
            retry_at: failure.retry_at.micros(),
            updated_at: failure.at.micros(),
            user_id: failure.key.user_id.map(|id| id.to_string()),
        };
        let below_bound = login_failures::table
            .find(&failure.key.name)
            .filter(login_failures::failures.lt(stored(failure.below)));
        write!(self, |conn| {
            loop {
                let inserted = diesel::insert_into(login_failures::table)
                    .values(&first)
                    .on_conflict_do_nothing()
                    .execute(conn)
                    .await?;
                let one_more = diesel::update(below_bound).set((
                    login_failures::failures.eq(login_failures::failures + 1),
                    login_failures::retry_at.eq(first.retry_at),
                    login_failures::updated_at.eq(first.updated_at),
                ));
                if inserted > 0 || one_more.execute(conn).await? > 0 {
                    return Ok(Counting::Counted);
                }
                // Gone again when a success or an operator cleared it between the two statements.
                if let Some(counter) = find_counter!(conn, &failure.key.name) {
                    return Ok(Counting::BeyondBound(counter));
                }
            }
        })
    }

    /// Replaces the state `seen` by `next`. Returns `false`, and changes nothing, when the state is no longer `seen`: of
    /// many callers that saw the same state, one succeeds.
    pub async fn replace_counter(
        &self,
        key: &CounterKey,
        seen: FailureCounter,
        next: FailureCounter,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let unchanged = login_failures::table
            .find(&key.name)
            .filter(login_failures::failures.eq(stored(seen.failures)))
            .filter(login_failures::retry_at.eq(seen.retry_at.micros()));
        let update = diesel::update(unchanged).set((
            login_failures::failures.eq(stored(next.failures)),
            login_failures::retry_at.eq(next.retry_at.micros()),
            login_failures::updated_at.eq(now.micros()),
        ));
        let changed = write!(self, |conn| Ok(update.execute(conn).await?))?;
        Ok(changed > 0)
    }

    /// Clears a counter after a right password, unless it is at `limit` or above and `claim` is not its state. Returns
    /// the state that forbids it.
    pub async fn clear_counter(
        &self,
        key: &CounterKey,
        limit: u32,
        claim: Option<FailureCounter>,
    ) -> Result<Option<FailureCounter>, StoreError> {
        let admitted = login_failures::table.find(&key.name).filter(
            login_failures::failures
                .lt(stored(limit))
                .or(login_failures::retry_at.eq(claimed_until(claim))),
        );
        write!(self, |conn| {
            if diesel::delete(admitted).execute(conn).await? > 0 {
                return Ok(None);
            }
            Ok(find_counter!(conn, &key.name))
        })
    }

    /// Dates up to `batch` counters `now` that a wrong clock dated more than `tolerance` later, so that their age counts
    /// from here. Returns how many there were.
    pub(super) async fn redate_counters(
        &self,
        now: Timestamp,
        tolerance: Duration,
        batch: usize,
    ) -> Result<usize, StoreError> {
        let latest = (now + tolerance).micros();
        let ahead = login_failures::table
            .filter(login_failures::updated_at.gt(latest))
            .limit(i64::try_from(batch).unwrap_or(i64::MAX))
            .select(login_failures::account);
        let names: Vec<String> = read!(self, |conn| Ok(ahead.load(conn).await?))?;
        if names.is_empty() {
            return Ok(0);
        }
        let still_ahead = login_failures::table
            .filter(login_failures::account.eq_any(names))
            .filter(login_failures::updated_at.gt(latest));
        let redated = diesel::update(still_ahead).set(login_failures::updated_at.eq(now.micros()));
        write!(self, |conn| Ok(redated.execute(conn).await?))
    }

    /// Clears every counter of a user: those with these names, and those of the user's devices and sessions. Records
    /// that, unless there was nothing to clear.
    pub async fn clear_counters_of(
        &self,
        id: UserId,
        names: &[String],
        event: &AuditEvent,
    ) -> Result<usize, StoreError> {
        let event = event.to_row_for(id);
        let all = login_failures::table.filter(
            login_failures::account
                .eq_any(names)
                .or(login_failures::user_id.eq(id.to_string())),
        );
        write!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                let cleared = diesel::delete(all).execute(conn).await?;
                if cleared > 0 {
                    diesel::insert_into(audit_events::table)
                        .values(&event)
                        .execute(conn)
                        .await?;
                }
                Ok(cleared)
            })
            .await
        })
    }
}

/// The `retry_at` of a claimed trial, or one that no counter has.
pub(super) fn claimed_until(claim: Option<FailureCounter>) -> i64 {
    claim.map_or(i64::MIN, |claim| claim.retry_at.micros())
}

/// A user, the stored hash, when the user last logged in, the kinds of factors, and the authenticator app.
type CredentialsRow = (
    UserRow,
    String,
    Option<i64>,
    Option<String>,
    Option<TotpRow>,
);

/// What the user is judged by, and whether the user has logged in before.
fn credentials(
    found: Option<CredentialsRow>,
) -> Result<(Option<UserCredentials>, bool), StoreError> {
    let Some((row, password_hash, last_login, kinds, totp)) = found else {
        return Ok((None, false));
    };
    let credentials = UserCredentials {
        user: row.try_into()?,
        password_hash,
        factors: stored_kinds(kinds.as_deref())?,
        totp: totp.map(StoredTotp::try_from).transpose()?,
        passkey: None,
    };
    Ok((Some(credentials), last_login.is_some()))
}

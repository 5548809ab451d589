//! Counters of wrong passwords and second factors. `domain::FailureCounter` decides what their state means; this file reads
//! and changes them, each change by one statement that names the state it expects.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};

use crate::{
    clock::Timestamp,
    domain::{FailureCounter, UserId},
    store::{
        AuditEvent, Store, StoreError, read,
        schema::{audit_events, login_failures},
        write,
    },
};

/// Names one counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterKey {
    /// A MAC: it reveals neither the e-mail address nor the device, session or passkey.
    pub name: String,
    /// Whose device, session or passkey it belongs to; `None` for the counter of an e-mail address.
    pub user_id: Option<UserId>,
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
pub(in crate::store) type StateColumns = (i32, i64);

/// A counter from its columns.
pub(in crate::store) fn state((failures, retry_at): StateColumns) -> FailureCounter {
    FailureCounter {
        failures: u32::try_from(failures).unwrap_or(0),
        retry_at: Timestamp::from_micros(retry_at),
    }
}

/// A number of failures as it is stored.
pub(in crate::store) fn stored(failures: u32) -> i32 {
    i32::try_from(failures).unwrap_or(i32::MAX)
}

/// A counter that a right proof clears, if it still admits that.
#[derive(Clone, Copy, Debug)]
pub struct Clearing<'a> {
    /// The counter.
    pub key: &'a CounterKey,
    /// How many failures it may have without a claim.
    pub limit: u32,
    /// The trial that the attempt claimed, if the counter stood at the limit.
    pub claim: Option<FailureCounter>,
}

/// Reads a counter on a connection.
macro_rules! find_counter {
    ($conn:expr, $name:expr) => {{
        use $crate::store::{schema::login_failures, sessions::login_failures as counters};
        let found: Option<counters::StateColumns> = login_failures::table
            .find($name)
            .select((login_failures::failures, login_failures::retry_at))
            .get_result($conn)
            .await
            .optional()?;
        found.map(counters::state)
    }};
}

/// Clears a counter on a connection, unless it is at its limit or above and the claim is not its state. Returns the state
/// that forbids it.
macro_rules! clear_counter {
    ($conn:expr, $clearing:expr) => {{
        use $crate::store::{schema::login_failures, sessions::login_failures as counters};
        let clearing: $crate::store::Clearing<'_> = $clearing;
        let name = &clearing.key.name;
        let admitted = login_failures::table.find(name).filter(
            login_failures::failures
                .lt(counters::stored(clearing.limit))
                .or(login_failures::retry_at.eq(counters::claimed_until(clearing.claim))),
        );
        match diesel::delete(admitted).execute($conn).await? {
            0 => counters::find_counter!($conn, name),
            _ => None,
        }
    }};
}

pub(in crate::store) use {clear_counter, find_counter};

impl Store {
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

    /// Clears a counter after a right password, if it still admits that. Returns the state that forbids it.
    pub async fn clear_counter(
        &self,
        clearing: Clearing<'_>,
    ) -> Result<Option<FailureCounter>, StoreError> {
        write!(self, |conn| Ok(clear_counter!(conn, clearing)))
    }

    /// Dates up to `batch` counters `now` that a wrong clock dated more than `tolerance` later, so that their age counts
    /// from here. Returns how many there were.
    pub(in crate::store) async fn redate_counters(
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

    /// Clears every counter of a user: those with these names, and those of the user's devices, sessions and factors.
    /// Records that, unless there was nothing to clear.
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
pub(in crate::store) fn claimed_until(claim: Option<FailureCounter>) -> i64 {
    claim.map_or(i64::MIN, |claim| claim.retry_at.micros())
}

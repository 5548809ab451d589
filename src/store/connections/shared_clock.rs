//! The clock that all replicas share: the database's. What several replicas compare is dated by it, so that a replica whose
//! own clock is wrong harms nobody.
//!
//! SQLite has one server, whose clock is the only one; a test that moves its clock has no other either.

use std::time::Duration;

use diesel::{
    AppearsOnTable, Expression, QueryResult, SelectableExpression,
    backend::Backend,
    expression::{ValidGrouping, is_aggregate},
    pg::Pg,
    prelude::*,
    query_builder::{AstPass, QueryFragment, QueryId},
    sql_types::{BigInt, Nullable},
    sqlite::Sqlite,
};
use diesel_async::RunQueryDsl;

use crate::{
    clock::{Clock, Timestamp},
    domain::SessionId,
    store::{Store, StoreError, read, schema::sessions},
};

/// The time of the database in microseconds since the Unix epoch; null where it is not used.
#[derive(Clone, Copy, Debug, QueryId)]
pub(in crate::store) struct DatabaseTime {
    is_used: bool,
}

impl DatabaseTime {
    /// Null beside a clock that a test moves.
    pub(in crate::store) const fn beside(clock: &Clock) -> Self {
        Self {
            is_used: clock.is_of_machine(),
        }
    }
}

impl Expression for DatabaseTime {
    type SqlType = Nullable<BigInt>;
}

impl<T> AppearsOnTable<T> for DatabaseTime {}

impl<T> SelectableExpression<T> for DatabaseTime {}

impl<G> ValidGrouping<G> for DatabaseTime {
    type IsAggregate = is_aggregate::Never;
}

/// The expression in the language of one database.
trait TimeSql: Backend {
    const NOW: &'static str;
}

impl TimeSql for Pg {
    const NOW: &'static str = "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint";
}

impl TimeSql for Sqlite {
    const NOW: &'static str = "NULL";
}

impl<DB: TimeSql> QueryFragment<DB> for DatabaseTime {
    fn walk_ast<'b>(&'b self, mut pass: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        pass.push_sql(if self.is_used { DB::NOW } else { "NULL" });
        Ok(())
    }
}

impl Store {
    /// The time by the clock that all replicas share.
    ///
    /// # Errors
    /// The database fails.
    pub async fn shared_now(&self) -> Result<Timestamp, StoreError> {
        let clock = self.availability.clock();
        if self.is_local() || !clock.is_of_machine() {
            return Ok(clock.now());
        }
        let time = DatabaseTime::beside(clock);
        let now: Option<i64> = read!(self, |conn| {
            Ok(diesel::select(time).get_result(conn).await?)
        })?;
        Ok(now.map_or_else(|| clock.now(), Timestamp::from_micros))
    }

    /// How long ago a session was moved to `generation`, by the clock that all replicas share; `None` when that is not known.
    ///
    /// # Errors
    /// The database fails.
    pub async fn time_since_rotation(
        &self,
        session_id: SessionId,
        generation: i32,
    ) -> Result<Option<Duration>, StoreError> {
        let clock = self.availability.clock();
        if self.is_local() || !clock.is_of_machine() {
            return Ok(None);
        }
        let time = DatabaseTime::beside(clock);
        let times: Option<(Option<i64>, Option<i64>)> = read!(self, |conn| {
            Ok(sessions::table
                .filter(sessions::id.eq(session_id.to_string()))
                .filter(sessions::generation.eq(generation))
                .select((sessions::rotated_by_database_at, time))
                .get_result(conn)
                .await
                .optional()?)
        })?;
        let [then, now] = match times {
            Some((Some(then), Some(now))) => [then, now].map(Timestamp::from_micros),
            _ => return Ok(None),
        };
        Ok(Some(now.since(then)))
    }
}

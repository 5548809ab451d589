//! The order of revocations, and the epoch in which it holds.
//!
//! One row has the greatest position that was given out. A transaction that revokes changes it last of all, and holds its
//! lock until the commit: revocations become visible in the order of their positions, so whoever has seen one has seen all
//! before it. Decision 0901.
//!
//! The epoch is a hash of what names this history of the database: a random id in that row, and on PostgreSQL what the
//! server says of itself. A copy that is restored elsewhere, a dump that is read back and a standby that is promoted have
//! another one, without anything an operator has to do. All replicas of a database compute the same.

use aws_lc_rs::digest::{SHA256, digest};
use diesel::{
    prelude::*,
    sql_types::{BigInt, Nullable, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::{
    clock::{Clock, Timestamp},
    domain::{FeedEpoch, uuid_v7},
    store::{
        Store, StoreError,
        connections::{pool::Pool, sqlite::AsyncSqliteConnection},
        prepared::Prepared,
        read,
        schema::feed_state,
        write,
    },
};

/// The one row.
pub(in crate::store) const ROW: &str = "feed";

/// Takes `$1` positions beyond all others and beyond the time `$2`, and returns the last. The table of revocations is
/// looked at for versions that do not know the row.
const TAKE: &str = "UPDATE feed_state SET position = CAST($1 AS BIGINT) + (\
     SELECT max(candidate) FROM (SELECT feed_state.position AS candidate \
     UNION ALL SELECT max(revocations.position) FROM revocations \
     UNION ALL SELECT CAST($2 AS BIGINT)) AS candidates) \
     WHERE id = 'feed' RETURNING position";

#[derive(QueryableByName)]
struct Taken {
    #[diesel(sql_type = BigInt)]
    position: i64,
}

/// A connection on which a transaction takes positions for revocations.
pub(in crate::store) trait TakePositions {
    /// Takes `count` positions and returns the one before the first. From then on the transaction holds a lock that every
    /// other one needs which revokes: it only writes and commits.
    async fn take_positions(&mut self, count: usize, now: Timestamp) -> Result<i64, StoreError>;
}

macro_rules! take_positions {
    ($conn:expr, $count:expr, $now:expr) => {{
        let count = i64::try_from($count).unwrap_or(i64::MAX);
        // One less, so that the first position may be the present microsecond.
        let newest = $now.micros() - 1;
        let take = || {
            let take = diesel::sql_query(TAKE);
            Prepared(take.bind::<BigInt, _>(count).bind::<BigInt, _>(newest))
        };
        let taken: Option<Taken> = take().get_result($conn).await.optional()?;
        let taken = match taken {
            Some(taken) => taken,
            None => {
                diesel::insert_into(feed_state::table)
                    .values(first_row())
                    .on_conflict_do_nothing()
                    .execute($conn)
                    .await?;
                take().get_result($conn).await?
            }
        };
        Ok(taken.position - count)
    }};
}

impl TakePositions for AsyncPgConnection {
    async fn take_positions(&mut self, count: usize, now: Timestamp) -> Result<i64, StoreError> {
        take_positions!(self, count, now)
    }
}

impl TakePositions for AsyncSqliteConnection {
    async fn take_positions(&mut self, count: usize, now: Timestamp) -> Result<i64, StoreError> {
        take_positions!(self, count, now)
    }
}

/// How far the order of revocations has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedState {
    /// The epoch; `None` on a standby, which cannot tell whether it will be promoted.
    pub epoch: Option<FeedEpoch>,
    /// The greatest position that was given out and committed.
    pub position: i64,
    history: String,
}

/// The row, with what PostgreSQL says of itself.
#[derive(QueryableByName)]
struct StateRow {
    #[diesel(sql_type = Text)]
    history: String,
    #[diesel(sql_type = BigInt)]
    position: i64,
    /// `None` on a standby.
    #[diesel(sql_type = Nullable<Text>)]
    server: Option<String>,
}

impl Store {
    /// The epoch, and the greatest position.
    ///
    /// # Errors
    /// The database fails.
    pub async fn feed_state(&self) -> Result<FeedState, StoreError> {
        let row = match self.feed_state_row().await? {
            Some(row) if !row.history.is_empty() => row,
            _ => {
                self.begin_history_after("").await?;
                let row = self.feed_state_row().await?;
                row.ok_or_else(|| StoreError::Corrupt("feed_state has no row".to_owned()))?
            }
        };
        let epoch = row.server.map(|server| epoch(&row.history, &server));
        Ok(FeedState {
            epoch: epoch.flatten(),
            position: row.position,
            history: row.history,
        })
    }

    async fn feed_state_row(&self) -> Result<Option<StateRow>, StoreError> {
        let server = match &self.pool {
            Pool::Postgres(pool) => pool.connector.server_identity(),
            Pool::Sqlite { .. } => "''".to_owned(),
        };
        let question = format!(
            "SELECT history, (SELECT max(candidate) FROM (SELECT feed_state.position AS candidate \
             UNION ALL SELECT max(revocations.position) FROM revocations) AS candidates) AS position, \
             {server} AS server FROM feed_state WHERE id = 'feed'"
        );
        read!(self, |conn| {
            let question = Prepared(diesel::sql_query(&question));
            Ok(question.get_result(conn).await.optional()?)
        })
    }

    /// The greatest position that is committed now.
    ///
    /// # Errors
    /// The database fails.
    pub async fn newest_position(&self) -> Result<i64, StoreError> {
        Ok(self.feed_state().await?.position)
    }

    /// Begins another epoch, unless another replica was first: revocations of this one were lost.
    ///
    /// # Errors
    /// The database fails.
    pub async fn begin_epoch_after(&self, lost: &FeedState) -> Result<(), StoreError> {
        self.begin_history_after(&lost.history).await
    }

    async fn begin_history_after(&self, old: &str) -> Result<(), StoreError> {
        let history = uuid_v7(Clock::System.now()).to_string();
        write!(self, |conn| {
            diesel::insert_into(feed_state::table)
                .values(first_row())
                .on_conflict_do_nothing()
                .execute(conn)
                .await?;
            let unchanged = feed_state::table
                .find(ROW)
                .filter(feed_state::history.eq(old));
            diesel::update(unchanged)
                .set(feed_state::history.eq(&history))
                .execute(conn)
                .await?;
            Ok(())
        })
    }
}

/// Gives a copy of a SQLite database a history of its own, which the next server begins.
pub(in crate::store) async fn forget_history(
    connection: &mut AsyncSqliteConnection,
) -> Result<(), StoreError> {
    diesel::update(feed_state::table)
        .set(feed_state::history.eq(""))
        .execute(connection)
        .await?;
    Ok(())
}

fn epoch(history: &str, server: &str) -> Option<FeedEpoch> {
    let named = format!("countersign feed epoch\n{history}\n{server}");
    let digest = digest(&SHA256, named.as_bytes());
    let bytes = digest.as_ref().first_chunk()?;
    FeedEpoch::from_bytes(*bytes)
}

type FirstRow = (
    diesel::dsl::Eq<feed_state::id, &'static str>,
    diesel::dsl::Eq<feed_state::history, &'static str>,
    diesel::dsl::Eq<feed_state::position, i64>,
);

/// The row, where somebody has deleted it.
fn first_row() -> FirstRow {
    (
        feed_state::id.eq(ROW),
        feed_state::history.eq(""),
        feed_state::position.eq(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_history_and_another_server_are_other_epochs() {
        let of = |history, server| epoch(history, server).unwrap();
        assert_eq!(of("a", "1/00000001/5/7.7"), of("a", "1/00000001/5/7.7"));
        for other in [
            of("b", "1/00000001/5/7.7"),
            of("a", "2/00000001/5/7.7"),
            of("a", "1/00000002/5/7.7"),
            of("a", "1/00000001/6/7.7"),
            of("a", "1/00000001/5/8.8"),
        ] {
            assert_ne!(of("a", "1/00000001/5/7.7"), other);
        }
    }
}

//! Inserts a session together with the audit event of its login.

use diesel::{
    QueryResult,
    dsl::sql,
    pg::Pg,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    sql_types::{BigInt, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::{
    clock::Timestamp,
    store::{
        StoreError,
        audit::events::AuditEventRow,
        connections::sqlite::AsyncSqliteConnection,
        prepared::Prepared,
        schema::{audit_events, sessions},
        sessions::records::SessionRow,
    },
};

/// The INSERT of the session in `$row`, which returns how many live sessions the user has besides. Counted by the INSERT itself,
/// which costs no round trip and sees what was committed before the lock on the user's row was taken.
macro_rules! insert_session {
    ($row:expr, $epoch:expr, $now:expr, $window:expr) => {{
        let others = sql::<BigInt>(
            "(SELECT count(*) FROM (SELECT other.idle_expires_at, other.absolute_expires_at
                FROM sessions AS other WHERE other.revoked_at IS NULL AND other.user_id = ",
        )
        .bind::<Text, _>(&$row.user_id)
        .sql(" AND coalesce(other.session_epoch, other.created_at) >= ")
        .bind::<BigInt, _>($epoch)
        .sql(" AND other.id <> ")
        .bind::<Text, _>(&$row.id)
        .sql(" ORDER BY coalesce(other.session_epoch, other.created_at) DESC, other.id DESC LIMIT ")
        // No parameter: for a LIMIT that is one, SQLite prepares the statement again at every execution.
        .sql(&i64::to_string(&$window))
        .sql(") AS newest WHERE newest.idle_expires_at > ")
        .bind::<BigInt, _>($now.micros())
        .sql(" AND newest.absolute_expires_at > ")
        .bind::<BigInt, _>($now.micros())
        .sql(")");
        diesel::insert_into(sessions::table)
            .values($row)
            .returning(others)
    }};
}

/// A connection on which a transaction inserts a session with the audit event of its login.
pub(in crate::store) trait InsertSession {
    /// Returns how many live sessions the user has besides this one.
    async fn insert_session(
        &mut self,
        row: &SessionRow,
        event: &AuditEventRow,
        epoch: i64,
        now: Timestamp,
        window: i64,
    ) -> Result<i64, StoreError>;
}

impl InsertSession for AsyncPgConnection {
    /// One statement, so that the event costs no round trip.
    async fn insert_session(
        &mut self,
        row: &SessionRow,
        event: &AuditEventRow,
        epoch: i64,
        now: Timestamp,
        window: i64,
    ) -> Result<i64, StoreError> {
        let both = WithEvent {
            event: diesel::insert_into(audit_events::table).values(event),
            session: insert_session!(row, epoch, now, window),
        };
        Ok(Prepared(both).get_result(self).await?)
    }
}

impl InsertSession for AsyncSqliteConnection {
    /// Two statements: SQLite takes no INSERT within another, and there are no round trips.
    async fn insert_session(
        &mut self,
        row: &SessionRow,
        event: &AuditEventRow,
        epoch: i64,
        now: Timestamp,
        window: i64,
    ) -> Result<i64, StoreError> {
        diesel::insert_into(audit_events::table)
            .values(event)
            .execute(self)
            .await?;
        let session = insert_session!(row, epoch, now, window);
        Ok(Prepared(session).get_result(self).await?)
    }
}

/// `WITH event AS (INSERT …) INSERT … RETURNING …`: PostgreSQL executes both.
struct WithEvent<E, S> {
    event: E,
    session: S,
}

impl<E, S: Query> Query for WithEvent<E, S> {
    type SqlType = S::SqlType;
}

impl<E, S> QueryId for WithEvent<E, S> {
    type QueryId = ();

    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<E: QueryFragment<Pg>, S: QueryFragment<Pg>> QueryFragment<Pg> for WithEvent<E, S> {
    fn walk_ast<'b>(&'b self, mut pass: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        pass.push_sql("WITH event AS (");
        self.event.walk_ast(pass.reborrow())?;
        pass.push_sql(") ");
        self.session.walk_ast(pass)
    }
}

//! A connection to PostgreSQL as the pool holds it: diesel's, with what was observed on its stream.

use std::sync::Arc;

use diesel::{
    ConnectionError, ConnectionResult, QueryResult,
    connection::{CacheSize, Instrumentation},
    query_builder::{AsQuery, QueryFragment, QueryId},
    result::Error as DieselError,
};
use diesel_async::{
    AnsiTransactionManager, AsyncConnection, AsyncConnectionCore, AsyncPgConnection,
    SimpleAsyncConnection, pooled_connection::PoolableConnection,
};

use super::{
    driver::RunningDriver,
    observer::Observed,
    sqlstate::{Keep, sort},
};
use crate::store::StoreError;

/// A connection and what is known of it besides.
pub(in crate::store) struct PostgresConnection {
    pub diesel: AsyncPgConnection,
    /// What the server reported.
    pub observed: Arc<Observed>,
    /// Its process at the server, as `pg_backend_pid()` says.
    pub process: i32,
    /// It is to be closed when it comes back to the pool.
    pub is_unwanted: bool,
    /// Closes the connection when it is dropped.
    pub _driver: RunningDriver,
}

impl PostgresConnection {
    /// Sorts what an operation came to by the code that the server reported; a connection whose error is not
    /// understood will be closed.
    pub(in crate::store) fn judge<T>(
        &mut self,
        result: Result<T, StoreError>,
    ) -> (Result<T, StoreError>, Keep) {
        let (result, keep) = match result {
            Ok(value) => (Ok(value), Keep::This),
            Err(StoreError::Conflict) => (Err(StoreError::Conflict), Keep::This),
            Err(StoreError::LastAdministrator) => (Err(StoreError::LastAdministrator), Keep::This),
            Err(StoreError::Corrupt(text)) => (Err(StoreError::Corrupt(text)), Keep::This),
            Err(error) => {
                let (error, keep) = self.sort(error);
                (Err(error), keep)
            }
        };
        self.is_unwanted |= keep != Keep::This;
        (result, keep)
    }

    fn sort(&self, error: StoreError) -> (StoreError, Keep) {
        match (self.observed.code(), error) {
            (Some(code), StoreError::Unsorted(text)) => sort(&code, &text),
            // The code may tell why the connection was lost, or be of an earlier error that was dealt with.
            (Some(code), StoreError::Unavailable(text)) => match sort(&code, &text) {
                sorted @ (StoreError::Unavailable(_) | StoreError::TooManyConnections(_), _) => {
                    sorted
                }
                _ => (StoreError::Unavailable(text), Keep::NotThis),
            },
            (None, StoreError::Unsorted(text)) => (StoreError::Busy(text), Keep::NotThis),
            (_, error) => (error, Keep::NotThis),
        }
    }
}

impl SimpleAsyncConnection for PostgresConnection {
    async fn batch_execute(&mut self, query: &str) -> QueryResult<()> {
        self.diesel.batch_execute(query).await
    }
}

impl AsyncConnectionCore for PostgresConnection {
    type ExecuteFuture<'conn, 'query> =
        <AsyncPgConnection as AsyncConnectionCore>::ExecuteFuture<'conn, 'query>;
    type LoadFuture<'conn, 'query> =
        <AsyncPgConnection as AsyncConnectionCore>::LoadFuture<'conn, 'query>;
    type Stream<'conn, 'query> = <AsyncPgConnection as AsyncConnectionCore>::Stream<'conn, 'query>;
    type Row<'conn, 'query> = <AsyncPgConnection as AsyncConnectionCore>::Row<'conn, 'query>;
    type Backend = diesel::pg::Pg;

    fn load<'conn, 'query, T>(&'conn mut self, source: T) -> Self::LoadFuture<'conn, 'query>
    where
        T: AsQuery + 'query,
        T::Query: QueryFragment<Self::Backend> + QueryId + 'query,
    {
        AsyncConnectionCore::load(&mut self.diesel, source)
    }

    fn execute_returning_count<'conn, 'query, T>(
        &'conn mut self,
        source: T,
    ) -> Self::ExecuteFuture<'conn, 'query>
    where
        T: QueryFragment<Self::Backend> + QueryId + 'query,
    {
        self.diesel.execute_returning_count(source)
    }
}

impl AsyncConnection for PostgresConnection {
    type TransactionManager = AnsiTransactionManager;

    /// Never used: the pool connects through `Connector`, which knows hosts, time and TLS.
    async fn establish(_: &str) -> ConnectionResult<Self> {
        let text = "connections are opened by their connector".to_owned();
        Err(ConnectionError::BadConnection(text))
    }

    fn transaction_state(&mut self) -> &mut AnsiTransactionManager {
        self.diesel.transaction_state()
    }

    fn instrumentation(&mut self) -> &mut dyn Instrumentation {
        self.diesel.instrumentation()
    }

    fn set_instrumentation(&mut self, instrumentation: impl Instrumentation) {
        self.diesel.set_instrumentation(instrumentation);
    }

    fn set_prepared_statement_cache_size(&mut self, size: CacheSize) {
        self.diesel.set_prepared_statement_cache_size(size);
    }
}

impl PoolableConnection for PostgresConnection {
    fn is_broken(&mut self) -> bool {
        self.is_unwanted || self.diesel.is_broken()
    }
}

/// Carries an error through the pool, whose own type has room for diesel's errors only.
pub(in crate::store) fn to_connection_error(error: StoreError) -> ConnectionError {
    ConnectionError::CouldntSetupConfiguration(DieselError::QueryBuilderError(Box::new(error)))
}

/// The error that was carried, or the text of what diesel says itself.
pub(in crate::store) fn from_connection_error(error: ConnectionError) -> StoreError {
    match error {
        ConnectionError::CouldntSetupConfiguration(DieselError::QueryBuilderError(inner)) => {
            match inner.downcast::<StoreError>() {
                Ok(error) => *error,
                Err(other) => StoreError::Unavailable(other.to_string()),
            }
        }
        other => StoreError::Unavailable(other.to_string()),
    }
}

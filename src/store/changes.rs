//! Telling replicas that something changed which they hold in memory: PostgreSQL's LISTEN and NOTIFY.
//!
//! A notification says "look again" and no more: what changed is read from the tables, so a lost, doubled
//! or garbled one can do no harm. On SQLite there are no replicas and nothing is said.

use std::future::{self, Future};

use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::StreamExt as _;

use super::{
    OPERATION_TIMEOUT, Store, StoreError, postgres::Connector, sqlite::AsyncSqliteConnection,
};
use crate::config::DatabaseUrl;

const LISTEN: &str = "LISTEN countersign_changes";
const NOTIFY: &str = "SELECT pg_notify('countersign_changes', '')";

/// A connection on which a transaction can tell the replicas, once it commits, to look again. Every
/// transaction that writes a revocation or a signing key ends with it.
pub(super) trait Announce {
    /// Tells them.
    async fn announce_change(&mut self) -> Result<(), StoreError>;
}

impl Announce for AsyncPgConnection {
    async fn announce_change(&mut self) -> Result<(), StoreError> {
        diesel::sql_query(NOTIFY).execute(self).await?;
        Ok(())
    }
}

impl Announce for AsyncSqliteConnection {
    async fn announce_change(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Hears from the database when a replica has changed something.
pub struct ChangeListener {
    /// Not from the pool: a connection that listens must stay. `None` on SQLite.
    connection: Option<AsyncPgConnection>,
}

impl Store {
    /// Begins to listen. Whoever does must look once afterwards: what was said before is lost.
    ///
    /// # Errors
    /// The database is out of reach. The circuit breaker is neither asked nor told.
    pub async fn listen(&self) -> Result<ChangeListener, StoreError> {
        let connection = match &self.url {
            DatabaseUrl::Sqlite(_) => None,
            DatabaseUrl::Postgres(url) => Some(in_time(connect(Connector::parse(url)?)).await?),
        };
        Ok(ChangeListener { connection })
    }
}

async fn connect(connector: Connector) -> Result<AsyncPgConnection, StoreError> {
    let mut connection = connector
        .named("countersign-listener")
        .connect()
        .await
        .map_err(|error| StoreError::Unavailable(error.to_string()))?;
    diesel::sql_query(LISTEN).execute(&mut connection).await?;
    Ok(connection)
}

impl ChangeListener {
    /// Waits for the next notification; on SQLite for ever. May be dropped and called again.
    ///
    /// # Errors
    /// The connection is lost: listen anew.
    pub async fn next(&mut self) -> Result<(), StoreError> {
        let Some(connection) = &mut self.connection else {
            return future::pending().await;
        };
        let mut notifications = std::pin::pin!(connection.notifications_stream());
        match notifications.next().await {
            Some(notification) => Ok(notification.map(drop)?),
            None => Err(StoreError::Unavailable("connection closed".to_owned())),
        }
    }

    /// Asks for a sign of life: a connection that fell silent looks like one on which nothing is said.
    ///
    /// # Errors
    /// There was none in time: listen anew.
    pub async fn check(&mut self) -> Result<(), StoreError> {
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        let question = async {
            diesel::sql_query("SELECT 1").execute(connection).await?;
            Ok(())
        };
        in_time(question).await
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(OPERATION_TIMEOUT, work)
        .await
        .unwrap_or_else(|_| Err(StoreError::Unavailable("no answer in time".to_owned())))
}

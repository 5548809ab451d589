//! Telling the other replicas that something changed: they look at once instead of at their next poll.

use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::{StoreError, pool::AsyncSqliteConnection};

/// A connection that can tell the other replicas.
pub(super) trait Announce {
    /// Tells them when the running transaction is committed.
    async fn announce(&mut self) -> Result<(), StoreError>;
}

impl Announce for AsyncPgConnection {
    async fn announce(&mut self) -> Result<(), StoreError> {
        diesel::sql_query("SELECT pg_notify('countersign_changes', '')")
            .execute(self)
            .await?;
        Ok(())
    }
}

impl Announce for AsyncSqliteConnection {
    /// SQLite notifies nobody; its replicas poll.
    async fn announce(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

//! Migrations: embedded in the binary, run once however many replicas start together.

use std::collections::BTreeSet;

use diesel::{
    backend::Backend,
    migration::{Migration, MigrationSource},
};
use diesel_async::{AsyncMigrationHarness, RunQueryDsl};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{StoreError, postgres::Connector, sqlite};
use crate::config::DatabaseUrl;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// Any number will do, as long as no other program that shares the database takes the same.
const ADVISORY_LOCK: &str = "SELECT pg_advisory_lock(4851233071)";

/// Applies what is missing and says how many migrations that were.
pub(super) async fn run(url: &DatabaseUrl) -> Result<usize, StoreError> {
    match url {
        DatabaseUrl::Sqlite(path) => {
            let connection = sqlite::connect(path).map_err(|error| unreachable(&error))?;
            apply(AsyncMigrationHarness::new(connection))
        }
        DatabaseUrl::Postgres(url) => {
            let mut connection = Connector::parse(url)?
                .connect()
                .await
                .map_err(|error| unreachable(&error))?;
            // Waiting for another replica and building an index may take longer than a statement
            // usually may. The lock goes with the connection, however this function ends.
            for statement in [
                "SET statement_timeout = 0",
                "SET lock_timeout = 0",
                ADVISORY_LOCK,
            ] {
                diesel::sql_query(statement)
                    .execute(&mut connection)
                    .await?;
            }
            apply(AsyncMigrationHarness::new(connection))
        }
    }
}

fn unreachable(error: &diesel::ConnectionError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

fn apply<DB, H>(mut harness: H) -> Result<usize, StoreError>
where
    DB: Backend,
    H: MigrationHarness<DB>,
    EmbeddedMigrations: MigrationSource<DB>,
{
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        StoreError::Query(format!("migration failed: {error}"))
    };
    let known: BTreeSet<String> = MigrationSource::<DB>::migrations(&MIGRATIONS)
        .map_err(failed)?
        .iter()
        .map(|migration| migration.name().version().to_string())
        .collect();
    let applied = harness.applied_migrations().map_err(failed)?;
    let unknown = applied
        .iter()
        .map(ToString::to_string)
        .find(|version| !known.contains(version));
    if let Some(version) = unknown {
        return Err(StoreError::NewerSchema(version));
    }
    let run = harness.run_pending_migrations(MIGRATIONS).map_err(failed)?;
    Ok(run.len())
}

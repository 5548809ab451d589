//! Migrations: embedded in the binary, run once however many replicas start together.
//!
//! On PostgreSQL all that is missing is applied in one transaction, which holds an advisory lock. diesel's own harness
//! begins by creating its table, which a role without CREATE may not, and prepares statements, which a pooler in
//! transaction mode loses; so the table of versions is kept here.

use std::{collections::BTreeSet, path::Path, time::Duration};

use diesel::{
    Connection as _, QueryDsl as _, RunQueryDsl as _, SqliteConnection,
    backend::Backend,
    migration::{Migration, MigrationSource},
    pg::Pg,
};
use diesel_async::{
    AsyncMigrationHarness, AsyncPgConnection, async_connection_wrapper::AsyncConnectionWrapper,
};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use tokio::time;

use crate::store::{
    StoreError,
    connections::{
        postgres::{Access, Connector, RawSession, SessionRights, sort_by_code},
        sqlite,
        start::{reported, retried},
    },
    schema::{TABLES, schema_compatibility},
    schema_version::{Fit, LEAST_MIGRATION, check_newer, compare},
};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// The longest that connecting may take at a start; more hosts share it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// The longest that a statement other than a migration may take at a start.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(4);
/// The longest wait for another replica that migrates; building an index takes a while.
const LOCK_TIMEOUT: Duration = Duration::from_secs(300);

/// Begins the transaction. Any number will do for the lock, as long as no other program that shares the database takes
/// the same; earlier versions hold it for their session.
const LOCK: &str = "SELECT pg_advisory_xact_lock(4851233071)";
/// A migration must not stand in the queue for a table, with everybody behind it, for long.
const TABLE_LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '10s'";

const VERSIONS: &str = "SELECT version FROM __diesel_schema_migrations";
/// As diesel declares it.
const CREATE_VERSIONS: &str = "CREATE TABLE IF NOT EXISTS __diesel_schema_migrations (\
     version VARCHAR(50) PRIMARY KEY NOT NULL, run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)";

/// Applies what is missing to a SQLite file and says how many migrations that were.
pub(super) fn sqlite(path: &Path) -> Result<usize, StoreError> {
    let connection = sqlite::connect(path);
    let connection = connection.map_err(|error| StoreError::Unavailable(error.to_string()))?;
    let mut harness = AsyncMigrationHarness::new(connection);
    let applied = harness
        .applied_migrations()
        .map_err(|error| failed(&error))?;
    let applied = applied.iter().map(ToString::to_string).collect();
    let known = versions_of(&known()?);
    if let Fit::Newer(newer) = compare(&known, &applied) {
        check_newer(&known, &applied, newer, least_in_sqlite(path).as_deref())?;
        return Ok(0);
    }
    let run = harness.run_pending_migrations(MIGRATIONS);
    Ok(run.map_err(|error| failed(&error))?.len())
}

/// `None` where a version without the table made the file.
fn least_in_sqlite(path: &Path) -> Option<String> {
    let mut connection = SqliteConnection::establish(&path.to_string_lossy()).ok()?;
    let read = schema_compatibility::table.select(schema_compatibility::least_migration);
    read.first(&mut connection).ok()
}

/// What to do where the role may not create tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WithoutRights {
    /// Fail at once.
    Fail,
    /// Wait until somebody with the rights has run `countersign migrate`.
    Wait,
}

/// The same for PostgreSQL, once it answers; and checks that the role may use the tables.
pub(super) async fn postgres(
    connector: &Connector,
    shown: &str,
    patience: Duration,
    without_rights: WithoutRights,
) -> Result<usize, StoreError> {
    let what = format!("the database {shown}");
    retried(&what, patience, async || {
        let opened = connector
            .connect_raw(CONNECT_TIMEOUT, Access::Transactions)
            .await;
        let (session, driver) = opened?;
        let known = known()?;
        let missing_now = answered(async {
            session.check_rights(TABLES).await?;
            missing(&session, &versions_of(&known)).await
        });
        if missing_now.await?.is_empty() {
            return Ok(0);
        }
        let applied = apply(session, &known).await;
        drop(driver);
        match (applied, without_rights) {
            (Err(StoreError::Forbidden(text)), WithoutRights::Wait) => {
                Err(StoreError::NotWritable(text))
            }
            (applied, _) => applied,
        }
    })
    .await
}

async fn answered<T>(
    question: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let answer = time::timeout(QUESTION_TIMEOUT, question).await;
    answer.unwrap_or_else(|_| Err(StoreError::Silent("no answer in time".to_owned())))
}

type Known = Vec<Box<dyn Migration<Pg>>>;

fn known() -> Result<Known, StoreError> {
    MigrationSource::<Pg>::migrations(&MIGRATIONS).map_err(|error| failed(&error))
}

fn failed(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Query(format!("migration failed: {error}"))
}

fn version<DB: Backend>(migration: &dyn Migration<DB>) -> String {
    migration.name().version().to_string()
}

fn versions_of(known: &Known) -> Vec<String> {
    known
        .iter()
        .map(|migration| version(&**migration))
        .collect()
}

/// The versions that are still to be applied, in their order: none where the schema is newer and suits this program.
async fn missing(session: &RawSession, known: &[String]) -> Result<Vec<String>, StoreError> {
    let applied = versions(session).await?;
    let newer = match compare(known, &applied) {
        Fit::Missing(versions) => return Ok(versions),
        Fit::Newer(newer) => newer,
    };
    let least = match has_table(session, "schema_compatibility").await? {
        true => session.row(LEAST_MIGRATION).await?.into_iter().next(),
        false => None,
    };
    check_newer(known, &applied, newer, least.as_deref())?;
    Ok(Vec::new())
}

/// Whether the table is there. A scan of the catalog and not `to_regclass`, which may answer from the session's cache:
/// after the wait for the lock that cache does not know of a table that another replica has made meanwhile.
async fn has_table(session: &RawSession, table: &str) -> Result<bool, StoreError> {
    let question = format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_class \
         WHERE relname = '{table}' AND pg_catalog.pg_table_is_visible(oid))"
    );
    let answer = session.row(&question).await?;
    Ok(answer.first().is_some_and(|there| there == "t"))
}

async fn versions(session: &RawSession) -> Result<BTreeSet<String>, StoreError> {
    if !has_table(session, "__diesel_schema_migrations").await? {
        return Ok(BTreeSet::new());
    }
    let rows = session.rows(VERSIONS).await?;
    Ok(rows.into_iter().flatten().collect())
}

/// Applies what is missing in one transaction, after taking the lock. The session must be dropped afterwards.
async fn apply(session: RawSession, known: &Known) -> Result<usize, StoreError> {
    let begin = format!(
        "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; \
         SET LOCAL lock_timeout = {}; {LOCK}",
        LOCK_TIMEOUT.as_millis()
    );
    let state = || "another process holds the lock; it ends with that process";
    reported("the lock for migrations", session.rows(&begin), state).await?;
    session.rows(TABLE_LOCK_TIMEOUT).await?;
    // Another replica may have been quicker.
    let missing = missing(&session, &versions_of(known)).await?;
    if missing.is_empty() {
        session.rows("COMMIT").await?;
        return Ok(0);
    }
    session
        .rows(CREATE_VERSIONS)
        .await
        .map_err(may_not_create)?;
    let observed = std::sync::Arc::clone(&session.observed);
    let connection = AsyncPgConnection::try_from(session.client).await;
    let connection = connection.map_err(|error| StoreError::Unavailable(error.to_string()))?;
    let mut connection = AsyncConnectionWrapper::<AsyncPgConnection>::from(connection);
    let run = |connection: &mut _| {
        for migration in known
            .iter()
            .filter(|one| missing.contains(&version(&***one)))
        {
            run_one(&**migration, connection)?;
        }
        diesel::connection::SimpleConnection::batch_execute(connection, "COMMIT")
            .map_err(|error| failed(&error))
    };
    observed.clear();
    tokio::task::block_in_place(|| run(&mut connection))
        .map_err(|error| sort_by_code(&observed, error))?;
    Ok(missing.len())
}

fn run_one(
    migration: &dyn Migration<Pg>,
    connection: &mut dyn diesel::connection::BoxableConnection<Pg>,
) -> Result<(), StoreError> {
    migration.run(connection).map_err(|error| failed(&error))?;
    // A version is digits: it comes from the name of a folder.
    let noted = format!(
        "INSERT INTO __diesel_schema_migrations (version) VALUES ('{}')",
        version(migration)
    );
    connection
        .batch_execute(&noted)
        .map_err(|error| failed(&error))
}

fn may_not_create(error: StoreError) -> StoreError {
    match error {
        StoreError::Forbidden(text) => StoreError::Forbidden(format!(
            "{text}; a role that may create tables has to run `countersign migrate` first"
        )),
        other => other,
    }
}

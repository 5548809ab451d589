//! A database for one test, gone when the test is.

use std::{
    env,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use diesel::{
    Connection as _, RunQueryDsl as _, SqliteConnection, connection::SimpleConnection as _,
    dsl::sql, select, sql_types::BigInt,
};
use tempfile::TempDir;
use tokio::time::sleep;
use tokio_postgres::{Config, NoTls};
use uuid::{NoContext, Timestamp, Uuid};

/// Which kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

/// A fresh, empty database. Clones share it.
#[derive(Clone)]
pub struct TestDatabase {
    pub kind: Kind,
    pub url: String,
    /// Holds the SQLite file, and whatever else the test wants to keep.
    pub folder: Arc<TempDir>,
    _cleanup: Arc<Cleanup>,
}

/// Drops the PostgreSQL database of the test.
struct Cleanup(Option<(Config, String)>);

impl TestDatabase {
    pub async fn create(kind: Kind) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let (url, cleanup) = match kind {
            Kind::Sqlite => {
                let path = folder.path().join("countersign.db");
                (format!("sqlite://{}", path.display()), Cleanup(None))
            }
            Kind::Postgres => create_postgres().await,
        };
        Self {
            kind,
            url,
            folder,
            _cleanup: Arc::new(cleanup),
        }
    }

    /// The SQLite file.
    pub fn sqlite_path(&self) -> PathBuf {
        self.folder.path().join("countersign.db")
    }

    /// Runs a statement behind the server's back.
    pub async fn execute(&self, sql: &str) {
        match self.kind {
            Kind::Sqlite => {
                let mut connection = open_sqlite(&self.sqlite_path());
                connection.batch_execute(sql).unwrap();
            }
            Kind::Postgres => {
                let client = connect(&self.url.parse().unwrap()).await;
                client.batch_execute(sql).await.unwrap();
            }
        }
    }

    /// How many rows there are; `what` goes on from `SELECT count(*) FROM`.
    pub async fn count(&self, what: &str) -> i64 {
        let counted = format!("(SELECT count(*) FROM {what})");
        match self.kind {
            Kind::Sqlite => {
                let mut connection = open_sqlite(&self.sqlite_path());
                select(sql::<BigInt>(&counted))
                    .get_result(&mut connection)
                    .unwrap()
            }
            Kind::Postgres => {
                let client = connect(&self.url.parse().unwrap()).await;
                let row = client.query_one(&format!("SELECT {counted}"), &[]).await;
                row.unwrap().get(0)
            }
        }
    }

    /// How many sessions of a PostgreSQL database wait for a lock.
    pub async fn waiting_for_locks(&self) -> i64 {
        let waiting =
            "pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        self.count(waiting).await
    }

    /// The only database of a PostgreSQL server that the test runs itself.
    pub fn of_cluster(url: String) -> Self {
        Self {
            kind: Kind::Postgres,
            url,
            folder: Arc::new(tempfile::tempdir().unwrap()),
            _cleanup: Arc::new(Cleanup(None)),
        }
    }

    /// A connection to a PostgreSQL database, behind the server's back.
    pub async fn client(&self) -> tokio_postgres::Client {
        connect(&self.url.parse().unwrap()).await
    }

    /// From now on every commit of the whole cluster waits, for a standby that is not there.
    pub async fn hold_commits(&self) {
        self.execute("ALTER SYSTEM SET synchronous_standby_names = 'gone'")
            .await;
        self.execute("SELECT pg_reload_conf()").await;
        // The checkpointer switches it on, some time after the reload.
        for number in 0.. {
            let client = self.client().await;
            let change = format!("CREATE TABLE held_{number} ()");
            let commit = tokio::spawn(async move { client.batch_execute(&change).await });
            while !commit.is_finished() {
                if self
                    .count("pg_stat_activity WHERE wait_event = 'SyncRep'")
                    .await
                    > 0
                {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Commits go on.
    pub async fn release_commits(&self) {
        self.execute("ALTER SYSTEM RESET synchronous_standby_names")
            .await;
        self.execute("SELECT pg_reload_conf()").await;
    }
}

fn open_sqlite(path: &Path) -> SqliteConnection {
    let mut connection = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    connection
        .batch_execute("PRAGMA busy_timeout = 5000")
        .unwrap();
    connection
}

/// Locks a SQLite file against every other connection, until the result is dropped.
pub fn lock_sqlite(path: &Path) -> SqliteConnection {
    let mut connection = open_sqlite(path);
    connection
        .batch_execute("PRAGMA journal_mode = WAL; PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; CREATE TABLE x (y)")
        .unwrap();
    connection
}

/// Keeps every other connection from writing to a SQLite file, until the result is dropped.
pub fn hold_sqlite_write_lock(path: &Path) -> SqliteConnection {
    let mut connection = open_sqlite(path);
    connection.batch_execute("BEGIN IMMEDIATE").unwrap();
    connection
}

async fn create_postgres() -> (String, Cleanup) {
    let base = env::var("TEST_DATABASE_URL").expect(
        "TEST_DATABASE_URL must name a PostgreSQL server on which databases can be created: run scripts/test",
    );
    let config: Config = base.parse().expect("TEST_DATABASE_URL is a URL");
    let name = format!("t_{}", Uuid::new_v7(Timestamp::now(NoContext)).simple());
    let client = connect(&config).await;
    client
        .batch_execute(&format!("CREATE DATABASE {name}"))
        .await
        .unwrap();
    let (server, _) = base.rsplit_once('/').expect("a URL with a database name");
    let query = base.split_once('?').map(|(_, query)| format!("?{query}"));
    let url = format!("{server}/{name}{}", query.unwrap_or_default());
    (url, Cleanup(Some((config, name))))
}

async fn connect(config: &Config) -> tokio_postgres::Client {
    let (client, connection) = config.connect(NoTls).await.expect("PostgreSQL answers");
    tokio::spawn(connection);
    client
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        let Some((config, name)) = self.0.take() else {
            return;
        };
        // A runtime of its own: the test's may be shutting down. A failure leaves a database behind on
        // a server that is thrown away anyway.
        let drop_database = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                if let Ok((client, connection)) = config.connect(NoTls).await {
                    tokio::spawn(connection);
                    let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                    let _ = client.batch_execute(&sql).await;
                }
            });
        };
        let _ = thread::spawn(drop_database).join();
    }
}

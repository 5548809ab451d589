//! SQLite connections: a library that reads and writes a file while its caller waits.
//!
//! An operation's statements run on the thread that asks, one after the other. Handing each of them to another
//! thread, which is what diesel-async does by itself, costs two changes of threads a statement. Nor is the thread's
//! other work handed on before it waits for the disk (`block_in_place`): that wakes another thread for each operation,
//! and only the one writer waits long. The runtime has a worker more than there are cores instead.

use std::{error::Error, future, path::Path, time::Duration};

use diesel::{
    Connection as _, ConnectionError, ConnectionResult, SqliteConnection,
    connection::SimpleConnection as _,
};
use diesel_async::{
    SimpleAsyncConnection as _,
    pooled_connection::deadpool::Object,
    sync_connection_wrapper::{SpawnBlocking, SyncConnectionWrapper},
};
use futures_util::{FutureExt as _, future::BoxFuture};
use scopeguard::ScopeGuard;

use super::StoreError;

/// A connection that looks like an asynchronous one, so that a query is written once for both databases.
pub(super) type AsyncSqliteConnection = SyncConnectionWrapper<SqliteConnection, InPlace>;

/// One of a pool.
type Pooled = Object<AsyncSqliteConnection>;

/// Makes every commit survive a power cut, not only a crash of this process: an acknowledged logout must stay one.
const FORCED: &str = "PRAGMA synchronous = FULL";

/// How long to wait for a lock. Only another process can hold one for long: here writers queue for the one connection.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_millis(400);

const AT_ONCE: &str = "statements that run in place are over when they are awaited";

/// Runs statements where they are asked for.
pub(super) struct InPlace;

impl SpawnBlocking for InPlace {
    fn spawn_blocking<'a, R: Send + 'static>(
        &mut self,
        task: impl FnOnce() -> R + Send + 'static,
    ) -> BoxFuture<'a, Result<R, Box<dyn Error + Send + Sync>>> {
        future::ready(Ok(task())).boxed()
    }

    fn get_runtime() -> Self {
        Self
    }
}

/// Runs an operation that awaits nothing but statements on this connection, from its begin to its end: nobody
/// who loses patience can leave a transaction open.
pub(super) fn in_place<T>(
    mut connection: Pooled,
    operation: impl AsyncFnOnce(&mut AsyncSqliteConnection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    operation(&mut connection).now_or_never().expect(AT_ONCE)
}

/// The same for a commit that survives a crash of this process, though not of the machine: it reaches the disk with
/// the next one that is forced, if not earlier.
pub(super) fn in_place_lazily<T>(
    connection: Pooled,
    operation: impl AsyncFnOnce(&mut AsyncSqliteConnection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    // Back to the pool it goes only when all is well: what is committed on it next may have to last.
    let mut lazy = scopeguard::guard(connection, |connection| drop(Pooled::take(connection)));
    let unforced = async {
        lazy.batch_execute("PRAGMA synchronous = NORMAL").await?;
        let result = operation(&mut lazy).await;
        if lazy.batch_execute(FORCED).await.is_ok() {
            drop(ScopeGuard::into_inner(lazy));
        }
        result
    };
    unforced.now_or_never().expect(AT_ONCE)
}

/// Opens a connection with the settings that every connection needs.
pub(super) fn connect(path: &Path) -> ConnectionResult<AsyncSqliteConnection> {
    let mut connection = SqliteConnection::establish(&path.to_string_lossy())?;
    // The time-out comes first: switching to WAL takes a lock itself.
    // The cache, in KiB, is small because what is not in it comes from the system's.
    connection
        .batch_execute(&format!(
            "PRAGMA busy_timeout = {};
             PRAGMA journal_mode = WAL;
             PRAGMA foreign_keys = ON;
             PRAGMA cache_size = -512;",
            BUSY_TIMEOUT.as_millis()
        ))
        .and_then(|()| connection.batch_execute(FORCED))
        .map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(AsyncSqliteConnection::new(connection))
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroUsize, panic::AssertUnwindSafe};

    use diesel::sql_types::Integer;
    use diesel_async::RunQueryDsl as _;
    use tempfile::TempDir;

    use super::{super::pool::Pool, *};
    use crate::config::{DatabaseSettings, DatabaseUrl};

    const FULL: i32 = 2;
    const NORMAL: i32 = 1;

    struct File {
        pool: Pool,
        _folder: TempDir,
    }

    impl File {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let pool = Pool::build(&DatabaseSettings {
                url: DatabaseUrl::Sqlite(folder.path().join("test.db")),
                pool_size: NonZeroUsize::MIN,
                audit_retention: Duration::MAX,
            });
            Self {
                pool: pool.expect("a pool"),
                _folder: folder,
            }
        }

        async fn writer(&self) -> Pooled {
            let Pool::Sqlite { writer, .. } = &self.pool else {
                unreachable!("it was built for SQLite")
            };
            writer.get().await.expect("a connection")
        }

        /// How the next operation on the writer commits.
        async fn synchronous(&self) -> i32 {
            let asked = in_place(self.writer().await, async |conn| synchronous(conn).await);
            asked.expect("an answer")
        }
    }

    async fn synchronous(conn: &mut AsyncSqliteConnection) -> Result<i32, StoreError> {
        let setting = diesel::dsl::sql::<Integer>("(SELECT synchronous FROM pragma_synchronous)");
        Ok(diesel::select(setting).get_result(conn).await?)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn only_a_lazy_operation_does_not_wait_for_the_disk() {
        let file = File::new();
        assert_eq!(file.synchronous().await, FULL);
        let within = in_place_lazily(file.writer().await, async |conn| synchronous(conn).await);
        assert_eq!(within.expect("an answer"), NORMAL);
        assert_eq!(file.synchronous().await, FULL);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_lazy_operation_that_fails_leaves_no_lazy_connection() {
        let file = File::new();
        let failed: Result<(), _> = in_place_lazily(file.writer().await, async |conn| {
            // Within a transaction the setting cannot be changed back.
            conn.batch_execute("BEGIN").await?;
            Err(StoreError::Conflict)
        });
        assert!(matches!(failed, Err(StoreError::Conflict)));
        assert_eq!(file.synchronous().await, FULL);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_lazy_operation_that_panics_leaves_no_lazy_connection() {
        let file = File::new();
        let writer = file.writer().await;
        let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| {
            in_place_lazily(writer, async |_| -> Result<(), _> {
                panic!("this panic is part of a test")
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(file.synchronous().await, FULL);
    }
}

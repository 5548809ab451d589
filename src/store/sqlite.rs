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
    pooled_connection::deadpool::Object,
    sync_connection_wrapper::{SpawnBlocking, SyncConnectionWrapper},
};
use futures_util::{FutureExt as _, future::BoxFuture};

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

//! SQLite connections: a library that reads and writes a file while its caller waits.
//!
//! An operation's statements run on the thread that asks, one after the other. Handing each of them to another
//! thread, which is what diesel-async does by itself, costs two changes of threads a statement.

use std::{
    error::Error,
    future::{self, Future},
    path::Path,
};

use diesel::{
    Connection as _, ConnectionError, ConnectionResult, SqliteConnection,
    connection::SimpleConnection as _,
};
use diesel_async::sync_connection_wrapper::{SpawnBlocking, SyncConnectionWrapper};
use futures_util::{FutureExt as _, future::BoxFuture};

/// A connection that looks like an asynchronous one, so that a query is written once for both databases.
pub(super) type AsyncSqliteConnection = SyncConnectionWrapper<SqliteConnection, InPlace>;

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

/// Runs an operation that awaits nothing but statements on such connections, from its begin to its end: nobody
/// who loses patience can leave a transaction open. The runtime's other tasks go on elsewhere meanwhile.
pub(super) fn in_place<T>(operation: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| operation.now_or_never())
        .expect("statements that run in place are over when they are awaited")
}

/// Opens a connection with the settings that every connection needs.
pub(super) fn connect(path: &Path) -> ConnectionResult<AsyncSqliteConnection> {
    tokio::task::block_in_place(|| {
        let mut connection = SqliteConnection::establish(&path.to_string_lossy())?;
        // The time-out comes first: switching to WAL takes a lock itself. Only another process can hold one for
        // long, and with the wait for a connection it stays under the two seconds that callers are promised.
        // `FULL` makes every commit survive a power cut, not only a crash of this process: an acknowledged logout
        // must stay one. The cache, in KiB, is small because what is not in it comes from the system's.
        connection
            .batch_execute(
                "PRAGMA busy_timeout = 700;
                 PRAGMA journal_mode = WAL;
                 PRAGMA synchronous = FULL;
                 PRAGMA foreign_keys = ON;
                 PRAGMA cache_size = -512;",
            )
            .map_err(ConnectionError::CouldntSetupConfiguration)?;
        Ok(AsyncSqliteConnection::new(connection))
    })
}

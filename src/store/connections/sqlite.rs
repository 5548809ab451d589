//! SQLite connections: statements run on the calling thread.
//!
//! diesel-async hands each statement to a blocking thread, which costs two thread switches per statement. Nor does an
//! operation announce that it blocks (`block_in_place`): that wakes another thread for each operation, and only the one
//! writer blocks for long. The runtime has one worker more than there are cores instead.

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

use crate::store::{
    StoreError,
    connections::{sqlite_file::FileIdentity, statement_spans::StatementSpans},
};

/// A connection that looks like an asynchronous one, so that a query is written once for both databases.
pub(in crate::store) type AsyncSqliteConnection = SyncConnectionWrapper<SqliteConnection, InPlace>;

/// One of a pool.
type Pooled = Object<AsyncSqliteConnection>;

/// Makes every commit survive a power cut, not only a crash of this process: an acknowledged logout must stay one.
const FORCED: &str = "PRAGMA synchronous = FULL";

/// How long to wait for a lock. Only another process can hold one for long: here writers queue for the one connection.
pub(in crate::store) const BUSY_TIMEOUT: Duration = Duration::from_millis(400);

const AT_ONCE: &str = "a statement that runs in place has ended when it is awaited";

/// Runs statements on the calling thread.
pub(in crate::store) struct InPlace;

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

/// Runs an operation that awaits only statements on this connection, from begin to end: a caller that gives up cannot
/// leave a transaction open.
pub(in crate::store) fn in_place<T>(
    mut connection: Pooled,
    operation: impl AsyncFnOnce(&mut AsyncSqliteConnection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let result = operation(&mut connection).now_or_never().expect(AT_ONCE);
    let (result, is_sound) = sorted(result);
    if !is_sound {
        drop(Pooled::take(connection));
    }
    result
}

/// Sorts an error by diesel's kind of it, which is made of SQLite's extended result code: what has none is about the
/// file, the disk or a lock (`SQLITE_BUSY`, `_FULL`, `_READONLY`, `_IOERR`, `_CANTOPEN`, `_CORRUPT`), or about a table
/// that is not there after a migration was undone. None of them is the caller's fault, and each may pass; whether it
/// lasts is found out by the ping, which writes. Also says whether the connection is as good as before.
fn sorted<T>(result: Result<T, StoreError>) -> (Result<T, StoreError>, bool) {
    match result {
        Err(StoreError::Unsorted(text)) => (Err(StoreError::Busy(text)), false),
        Err(error @ StoreError::Query(_)) => (Err(error), false),
        result => (result, true),
    }
}

/// Opens a connection with the settings that every connection needs.
pub(in crate::store) fn connect(path: &Path) -> ConnectionResult<AsyncSqliteConnection> {
    set_up(SqliteConnection::establish(&path.to_string_lossy())?)
}

/// The same, to this file and to no other that has taken its name: SQLite would apply the log of the one to the other, and
/// delete it. Nothing is read before the file is known to be the right one.
pub(in crate::store) fn connect_to(file: &FileIdentity) -> ConnectionResult<AsyncSqliteConnection> {
    let demand = || {
        let checked = file.check();
        checked.map_err(|error| ConnectionError::BadConnection(error.to_string()))
    };
    demand()?;
    let connection = SqliteConnection::establish(&file.path().to_string_lossy())?;
    demand()?;
    set_up(connection)
}

fn set_up(mut connection: SqliteConnection) -> ConnectionResult<AsyncSqliteConnection> {
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
    connection.set_instrumentation(StatementSpans::new("sqlite"));
    Ok(AsyncSqliteConnection::new(connection))
}

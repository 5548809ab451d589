//! Connection pools of both databases behind one type.

use std::{future, time::Duration};

use deadpool::{
    Runtime,
    managed::{Manager, TimeoutType, Timeouts},
};
use diesel::ConnectionResult;
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, PoolError, PoolableConnection, RecyclingMethod,
    deadpool::{Pool as Deadpool, PoolError as DeadpoolError},
};
use futures_util::{FutureExt as _, future::BoxFuture};

use crate::{
    config::{DatabaseSettings, DatabaseUrl},
    store::{
        StoreError,
        connections::{
            pool_load::PoolLoad,
            postgres::{Connector, from_connection_error, to_connection_error},
            postgres_pool::{CREATE_TIMEOUT, PostgresPool, WAIT_TIMEOUT},
            sqlite::{self, AsyncSqliteConnection},
            sqlite_file::{self, FileIdentity},
        },
    },
};

/// How long to wait for a free connection to SQLite, which opens at once. It is for disks that now and then take a
/// second to force a commit; with [`sqlite::BUSY_TIMEOUT`] it stays under the same two seconds.
const SQLITE_WAIT_TIMEOUT: Duration = Duration::from_millis(1_500);
const _: () = assert!(SQLITE_WAIT_TIMEOUT.as_millis() + sqlite::BUSY_TIMEOUT.as_millis() < 2_000);
/// SQLite readers beside the one writer; more would only wait for the disk.
const MAX_SQLITE_READERS: usize = 4;

/// Pooled connections to either database.
#[derive(Clone)]
pub(in crate::store) enum Pool {
    Postgres(Box<PostgresPool>),
    /// SQLite lets one connection write at a time: with a pool of one for writers they queue in
    /// order of arrival instead of polling the lock.
    Sqlite {
        readers: Deadpool<AsyncSqliteConnection>,
        writer: Deadpool<AsyncSqliteConnection>,
        file: FileIdentity,
    },
}

impl Pool {
    pub(in crate::store) fn loads(&self) -> Vec<PoolLoad> {
        match self {
            Self::Postgres(pool) => vec![pool.load()],
            Self::Sqlite {
                readers, writer, ..
            } => vec![
                PoolLoad::new("readers", readers.status()),
                PoolLoad::new("writer", writer.status()),
            ],
        }
    }

    pub(in crate::store) fn build(settings: &DatabaseSettings) -> Result<Self, StoreError> {
        let size = settings.pool_size.get();
        match &settings.url {
            DatabaseUrl::Postgres(url) => {
                let connector = Connector::new(url)?;
                let opener = connector.clone();
                let setup = move || {
                    let opener = opener.clone();
                    let opened = async move { opener.connect(CREATE_TIMEOUT).await };
                    opened
                        .map(|opened| opened.map_err(to_connection_error))
                        .boxed()
                };
                let connections = deadpool(size, WAIT_TIMEOUT, setup)?;
                Ok(Self::Postgres(Box::new(PostgresPool::new(
                    connections,
                    connector,
                    size,
                ))))
            }
            DatabaseUrl::Sqlite(path) => {
                sqlite_file::create(path)?;
                let file = FileIdentity::of(path)?;
                let opened = file.clone();
                let setup = move || future::ready(sqlite::connect_to(&opened)).boxed();
                Ok(Self::Sqlite {
                    readers: deadpool(
                        size.min(MAX_SQLITE_READERS),
                        SQLITE_WAIT_TIMEOUT,
                        setup.clone(),
                    )?,
                    writer: deadpool(1, SQLITE_WAIT_TIMEOUT, setup)?,
                    file,
                })
            }
        }
    }

    /// Closes connections to a server that are not in use; new ones are opened when needed. Nothing on SQLite.
    pub(in crate::store) fn close_idle(&self) {
        if let Self::Postgres(pool) = self {
            pool.close_idle();
        }
    }
}

impl From<DeadpoolError> for StoreError {
    fn from(error: DeadpoolError) -> Self {
        match error {
            DeadpoolError::Timeout(TimeoutType::Wait) => Self::PoolExhausted,
            DeadpoolError::Timeout(_) => Self::Silent("no connection in time".to_owned()),
            DeadpoolError::Backend(PoolError::ConnectionError(error)) => {
                from_connection_error(error)
            }
            other => Self::Unavailable(other.to_string()),
        }
    }
}

fn deadpool<C>(
    size: usize,
    wait: Duration,
    connect: impl Fn() -> BoxFuture<'static, ConnectionResult<C>> + Send + Sync + 'static,
) -> Result<Deadpool<C>, StoreError>
where
    C: PoolableConnection + Send + 'static,
    AsyncDieselConnectionManager<C>: Manager<Type = C, Error = PoolError>,
{
    let mut config = ManagerConfig::default();
    config.custom_setup = Box::new(move |_| connect());
    // A closed socket is noticed without a query; a test query before every real one would double
    // the round trips of a refresh.
    config.recycling_method = RecyclingMethod::Fast;
    let manager = AsyncDieselConnectionManager::new_with_config("", config);
    Deadpool::builder(manager)
        .max_size(size)
        .timeouts(Timeouts {
            wait: Some(wait),
            // The connector shares this time among the hosts itself.
            create: Some(CREATE_TIMEOUT * 2),
            recycle: Some(CREATE_TIMEOUT),
        })
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| StoreError::Query(error.to_string()))
}

//! Connections to PostgreSQL: never more than the pool's size, at the server either.
//!
//! deadpool keeps the connections. A *place* is the right to have one, and outlives the operation where it has to:
//! a caller that gives up leaves its statement running at the server, and a COMMIT that waits for a standby ends by
//! no time-out. Its connection keeps the place until the server has answered or the process there is gone.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use diesel_async::{
    AsyncPgConnection, SimpleAsyncConnection as _,
    pooled_connection::{
        PoolableConnection as _,
        deadpool::{Object, Pool as Deadpool},
    },
};
use tokio::{
    runtime::Handle,
    sync::{Mutex, OwnedSemaphorePermit, Semaphore},
    time,
};

use crate::{
    clock::monotonic_now,
    store::{
        StoreError,
        connections::{
            pool_load::PoolLoad,
            postgres::{Access, Connector, Keep, PostgresConnection},
        },
    },
};

/// How long to wait for a free connection to PostgreSQL.
pub(in crate::store) const WAIT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a new connection may take; with the wait it stays under the two seconds in which a
/// caller is promised an answer.
pub(in crate::store) const CREATE_TIMEOUT: Duration = Duration::from_millis(900);

/// How long to wait before asking for a connection again, where the server has none left and we hold none.
const FULL_SERVER_DELAY: Duration = Duration::from_millis(50);

/// How long a statement that was given up may stay unanswered before the server is asked about it, and how often.
const ABANDONED_CHECK: Duration = Duration::from_secs(2);

/// The pool. Clones share it.
#[derive(Clone)]
pub(in crate::store) struct PostgresPool {
    connections: Deadpool<PostgresConnection>,
    pub connector: Connector,
    shared: Arc<Shared>,
}

struct Shared {
    size: usize,
    places: Arc<Semaphore>,
    /// Places that the server has no connection for, as long as it says so.
    withheld: AtomicUsize,
    waiting: AtomicUsize,
    /// Connections whose operation was given up, and that the server has not answered.
    abandoned: AtomicUsize,
    /// Processes at work at the server, and when that was asked.
    busy: Mutex<Option<(Instant, HashSet<i32>)>>,
}

impl PostgresPool {
    pub fn new(
        connections: Deadpool<PostgresConnection>,
        connector: Connector,
        size: usize,
    ) -> Self {
        Self {
            connections,
            connector,
            shared: Arc::new(Shared {
                size,
                places: Arc::new(Semaphore::new(size)),
                withheld: AtomicUsize::new(0),
                waiting: AtomicUsize::new(0),
                abandoned: AtomicUsize::new(0),
                busy: Mutex::default(),
            }),
        }
    }

    /// A connection: a free one, a new one, or, where the server gives no more, the next that becomes free.
    pub async fn get(&self) -> Result<Lease, StoreError> {
        let deadline = monotonic_now() + WAIT_TIMEOUT;
        loop {
            let place = self.place(deadline).await?;
            match self.connections.get().await.map_err(StoreError::from) {
                Ok(connection) => {
                    return Ok(Lease {
                        pool: self.clone(),
                        held: Some((connection, place)),
                        is_settled: true,
                    });
                }
                Err(StoreError::TooManyConnections(text)) => {
                    if !self.withhold(place) {
                        if monotonic_now() >= deadline {
                            return Err(StoreError::TooManyConnections(text));
                        }
                        time::sleep(FULL_SERVER_DELAY).await;
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn place(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, StoreError> {
        let _waiting = Count::of(&self.shared, |shared| &shared.waiting);
        let places = Arc::clone(&self.shared.places).acquire_owned();
        let remaining = deadline.saturating_duration_since(monotonic_now());
        match time::timeout(remaining, places).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(StoreError::PoolExhausted),
        }
    }

    /// Gives a place up that the server has no connection for, unless it is the last one or no other has a
    /// connection; says whether it did. Those that are left are waited for in the order of arrival.
    fn withhold(&self, place: OwnedSemaphorePermit) -> bool {
        let others = self.connections.status().size;
        let most = self.shared.size - 1;
        let withheld = &self.shared.withheld;
        let is_withheld = others > 0
            && withheld
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                    (count < most).then_some(count + 1)
                })
                .is_ok();
        if is_withheld {
            place.forget();
        }
        is_withheld
    }

    /// Tries again to have a connection more, after the server had none left.
    pub fn grow(&self) {
        let one_less = |count: usize| count.checked_sub(1);
        let withheld = &self.shared.withheld;
        if withheld
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_ok()
        {
            self.shared.places.add_permits(1);
        }
    }

    /// Whether most connections wait for answers that nobody waits for any more.
    pub fn is_stuck(&self) -> bool {
        let withheld = self.shared.withheld.load(Ordering::Relaxed);
        2 * self.shared.abandoned.load(Ordering::Relaxed) >= self.shared.size - withheld
    }

    /// Closes the connections that are not in use, and tries the hosts from the first one on.
    pub fn close_idle(&self) {
        self.connector.forget_host();
        drop(self.connections.retain(|_, _| false));
    }

    pub fn load(&self) -> PoolLoad {
        let status = self.connections.status();
        PoolLoad {
            name: "all",
            max: self.shared.size,
            in_use: status.size.saturating_sub(status.available),
            idle: status.available,
            waiting: self.shared.waiting.load(Ordering::Relaxed),
        }
    }

    /// Waits until the server has answered what was given up, and lets the place go.
    async fn finish(self, mut connection: Object<PostgresConnection>, place: OwnedSemaphorePermit) {
        let _abandoned = Count::of(&self.shared, |shared| &shared.abandoned);
        let process = connection.process;
        let is_well = tokio::select! {
            // Answered after everything that was sent before it.
            rolled_back = connection.diesel.batch_execute("ROLLBACK") => rolled_back.is_ok(),
            () = self.gone(process) => false,
        };
        if is_well && !connection.is_broken() {
            drop(connection);
        } else {
            drop(Object::take(connection));
        }
        drop(place);
    }

    /// Waits until a process is no longer at work at the server: its answers were lost.
    async fn gone(&self, process: i32) {
        loop {
            time::sleep(ABANDONED_CHECK).await;
            let mut busy = self.shared.busy.lock().await;
            let is_old = |asked: &Instant| monotonic_now() - *asked >= ABANDONED_CHECK / 2;
            if busy.as_ref().is_none_or(|(asked, _)| is_old(asked)) {
                // One connection beside the pool, for as long as one question takes.
                *busy = self
                    .ask_for_busy()
                    .await
                    .ok()
                    .map(|found| (monotonic_now(), found));
            }
            if busy
                .as_ref()
                .is_some_and(|(_, found)| !found.contains(&process))
            {
                return;
            }
        }
    }

    async fn ask_for_busy(&self) -> Result<HashSet<i32>, StoreError> {
        let opened = self
            .connector
            .connect_raw(CREATE_TIMEOUT, Access::Sessions)
            .await;
        let (session, _driver) = opened?;
        let question = "SELECT pid FROM pg_stat_activity WHERE state IS DISTINCT FROM 'idle'";
        let rows = time::timeout(CREATE_TIMEOUT, session.rows(question)).await;
        let rows = rows.map_err(|_| StoreError::Silent("no answer in time".to_owned()))??;
        Ok(rows
            .iter()
            .filter_map(|row| row.first()?.parse().ok())
            .collect())
    }
}

/// One more of something, for as long as it is held.
struct Count(Arc<Shared>, fn(&Shared) -> &AtomicUsize);

impl Count {
    fn of(shared: &Arc<Shared>, which: fn(&Shared) -> &AtomicUsize) -> Self {
        which(shared).fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shared), which)
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection in use.
pub(in crate::store) struct Lease {
    pool: PostgresPool,
    held: Option<(Object<PostgresConnection>, OwnedSemaphorePermit)>,
    /// Nothing is under way on it.
    is_settled: bool,
}

const HELD: &str = "it is held until it is dropped";

impl Lease {
    /// The connection, for one operation.
    pub fn begin(&mut self) -> &mut AsyncPgConnection {
        self.is_settled = false;
        let (connection, _) = self.held.as_mut().expect(HELD);
        connection.observed.clear();
        &mut connection.diesel
    }

    /// Ends the operation: sorts its error by the server's code, and closes what an error says is of no more use.
    pub fn end<T>(mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        let (connection, _) = self.held.as_mut().expect(HELD);
        let (result, keep) = connection.judge(result);
        self.is_settled = true;
        if keep == Keep::None {
            self.pool.close_idle();
        }
        result
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some((mut connection, place)) = self.held.take() else {
            return;
        };
        if self.is_settled {
            if connection.is_broken() {
                drop(Object::take(connection));
            }
        } else if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(self.pool.clone().finish(connection, place));
        }
    }
}

//! Notifies replicas of changes to what they hold in memory: PostgreSQL's LISTEN and NOTIFY.
//!
//! A notification says "look again" and no more: what changed is read from the tables, so a lost, doubled
//! or garbled one does no harm. On SQLite there are no replicas and nothing is sent.

use std::{
    future::{self, Future},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use diesel::sql_types::Text;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use tokio::time;

use crate::{
    clock::Clock,
    domain::uuid_v7,
    store::{
        OPERATION_TIMEOUT, Store, StoreError,
        connections::{
            pool::Pool,
            postgres::{Access, RawSession, RunningDriver},
            sqlite::AsyncSqliteConnection,
        },
        same,
    },
};

const LISTEN: &str = "LISTEN countersign_changes";
const NOTIFY: &str = "SELECT pg_notify('countersign_changes', '')";

/// How long a notification of our own may take to arrive.
const NOTIFICATION_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection on which a transaction can notify the replicas when it commits. Every transaction that writes a
/// revocation or a signing key asks for it.
pub(in crate::store) trait Announce {
    /// Notifies them.
    async fn announce_change(&mut self) -> Result<(), StoreError>;
}

impl Announce for AsyncPgConnection {
    async fn announce_change(&mut self) -> Result<(), StoreError> {
        diesel::sql_query(NOTIFY).execute(self).await?;
        Ok(())
    }
}

impl Announce for AsyncSqliteConnection {
    async fn announce_change(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Receives a notification when a replica has changed something.
pub struct ChangeListener {
    /// Not from the pool: a connection that listens must stay. `None` on SQLite.
    session: Option<(RawSession, RunningDriver)>,
}

impl Store {
    /// Begins to listen, and tries once whether notifications arrive. Whoever listens must look once afterwards: what
    /// was announced before is lost.
    ///
    /// # Errors
    /// The database is out of reach. The circuit breaker is neither asked nor told.
    pub async fn listen(&self) -> Result<ChangeListener, StoreError> {
        let Pool::Postgres(pool) = &self.pool else {
            return Ok(ChangeListener { session: None });
        };
        let connector = pool.connector.clone().with_suffix("-listener");
        let opened = connector
            .connect_raw(OPERATION_TIMEOUT, Access::Sessions)
            .await;
        let (session, mut driver) = opened?;
        in_time(session.rows(LISTEN)).await?;
        let arrives = self.test_notifications(&mut driver).await;
        if let Some(arrives) = arrives {
            let arrived_before = self.receives_notifications.swap(arrives, Ordering::Relaxed);
            match (arrived_before, arrives) {
                (true, false) => tracing::warn!(
                    "notifications do not arrive, as behind a pooler that does not keep sessions: changes of other \
                     replicas are found by polling every second"
                ),
                (false, true) => tracing::info!("notifications arrive again"),
                _ => {}
            }
        }
        Ok(ChangeListener {
            session: Some((session, driver)),
        })
    }

    /// Whether notifications arrived when that was last tried. Where they do not, polling has to make up for it.
    pub fn receives_notifications(&self) -> bool {
        AtomicBool::load(&self.receives_notifications, Ordering::Relaxed)
    }

    /// Sends a notification on a connection of the pool and waits for it; `None` when it could not be sent.
    async fn test_notifications(&self, driver: &mut RunningDriver) -> Option<bool> {
        let Pool::Postgres(pool) = &self.pool else {
            return None;
        };
        let mark = uuid_v7(Clock::System.now()).to_string();
        let sent = in_time(async {
            let mut lease = pool.get().await?;
            let conn = lease.begin();
            let notify = diesel::sql_query("SELECT pg_notify('countersign_changes', $1)");
            let sent = same(async {
                notify.bind::<Text, _>(&mark).execute(conn).await?;
                Ok(())
            });
            let sent = sent.await;
            lease.end(sent)
        });
        sent.await.ok()?;
        let arrival = async {
            while let Some(payload) = driver.notifications.recv().await {
                if payload == mark {
                    return true;
                }
            }
            false
        };
        Some(
            time::timeout(NOTIFICATION_TIMEOUT, arrival)
                .await
                .unwrap_or(false),
        )
    }
}

impl ChangeListener {
    /// Waits for the next notification; on SQLite for ever. May be dropped and called again.
    ///
    /// # Errors
    /// The connection is lost: listen anew.
    pub async fn next(&mut self) -> Result<(), StoreError> {
        let Some((_, driver)) = &mut self.session else {
            return future::pending().await;
        };
        let closed = || StoreError::Unavailable("connection closed".to_owned());
        driver
            .notifications
            .recv()
            .await
            .map(drop)
            .ok_or_else(closed)
    }

    /// Asks for an answer: a connection that fell silent looks like one on which nothing is sent.
    ///
    /// # Errors
    /// There was none in time: listen anew.
    pub async fn check(&mut self) -> Result<(), StoreError> {
        let Some((session, _)) = &self.session else {
            return Ok(());
        };
        in_time(session.rows("SELECT 1")).await.map(drop)
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(OPERATION_TIMEOUT, work)
        .await
        .unwrap_or_else(|_| Err(StoreError::Silent("no answer in time".to_owned())))
}

//! Poolers such as PgBouncer: whether there is one, and whether a client keeps its session.
//!
//! Time-outs, prepared statements and LISTEN belong to a session. A pooler in transaction mode hands each
//! transaction to any session, so that settings reach other programs and notifications reach nobody.

use std::{
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use tokio::time;
use tokio_postgres::error::SqlState;

use super::{driver::RunningDriver, session::RawSession};
use crate::store::StoreError;

/// How a session is going to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Access {
    /// As a session, with settings of its own.
    Sessions,
    /// For transactions only: migrations.
    Transactions,
}

/// What is known of a pooler between this process and the server: one of the numbers below, or nothing yet.
#[derive(Debug, Default)]
pub(super) struct Pooling(AtomicU8);

const DIRECT: u8 = 1;
const SESSIONS: u8 = 2;
const TRANSACTIONS: u8 = 3;
const STATEMENTS: u8 = 4;

/// How long the second client of a trial may wait for a server connection. One that has to wait at all is behind a
/// pooler that keeps sessions apart.
const TRIAL: Duration = Duration::from_millis(300);
const TRIALS: usize = 3;

impl Pooling {
    pub fn is_direct(&self) -> bool {
        self.0.load(Ordering::Relaxed) == DIRECT
    }

    pub fn keeps_sessions(&self) -> bool {
        self.0.load(Ordering::Relaxed) == SESSIONS
    }

    pub fn loses_sessions(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= TRANSACTIONS
    }

    pub fn learn_direct(&self) {
        self.0.store(DIRECT, Ordering::Relaxed);
    }

    /// Finds out what the pooler does: while `session` is open and idle, a second client begins a transaction. It is
    /// given the first one's process, or moves the first one to another, only in transaction mode; in statement mode it may
    /// not begin one.
    ///
    /// # Errors
    /// The second client gets no connection or loses it, so that nothing is found out.
    pub async fn learn(
        &self,
        session: &RawSession,
        process: i32,
        other: impl Future<Output = Result<(RawSession, RunningDriver), StoreError>> + Send,
    ) -> Result<(), StoreError> {
        if self.0.load(Ordering::Relaxed) >= SESSIONS {
            return Ok(());
        }
        let trial = async {
            let (second, _driver) = other.await?;
            for _ in 0..TRIALS {
                let theirs = match second.row("BEGIN; SELECT pg_backend_pid()").await {
                    Err(_) if second.observed.code() == Some(SqlState::PROTOCOL_VIOLATION) => {
                        return Ok(STATEMENTS);
                    }
                    theirs => theirs?,
                };
                let ours = session.row("SELECT pg_backend_pid()").await?;
                second.rows("ROLLBACK").await?;
                let is_ours = |row: &[String]| row.first() == Some(&process.to_string());
                if is_ours(&theirs) || !is_ours(&ours) {
                    return Ok(TRANSACTIONS);
                }
            }
            Ok(SESSIONS)
        };
        let found: Result<u8, StoreError> =
            time::timeout(TRIAL, trial).await.unwrap_or(Ok(SESSIONS));
        self.0.store(found?, Ordering::Relaxed);
        if self.keeps_sessions() {
            tracing::info!("the database is reached through a pooler that keeps sessions");
        }
        Ok(())
    }

    /// Whether the pooler allows what is wanted.
    pub fn check(&self, access: Access) -> Result<(), StoreError> {
        let fault = match (self.0.load(Ordering::Relaxed), access) {
            (STATEMENTS, _) => "allows no transactions",
            (TRANSACTIONS, Access::Sessions) => {
                "does not keep sessions, so that time-outs and notifications are lost"
            }
            _ => return Ok(()),
        };
        Err(StoreError::Refused(format!(
            "the database is reached through a pooler that {fault}: set pool_mode = session for this database in its \
             configuration (PgBouncer: [databases] NAME = ... pool_mode=session), or let \
             COUNTERSIGN_DATABASE_URL name PostgreSQL itself"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transaction_pooling_is_refused_to_sessions_and_statement_pooling_to_all() {
        let pooling = Pooling::default();
        assert!(!pooling.is_direct() && !pooling.keeps_sessions());
        assert!(pooling.check(Access::Sessions).is_ok());
        pooling.0.store(TRANSACTIONS, Ordering::Relaxed);
        assert!(pooling.check(Access::Sessions).is_err());
        assert!(pooling.check(Access::Transactions).is_ok());
        pooling.0.store(STATEMENTS, Ordering::Relaxed);
        assert!(pooling.loses_sessions() && pooling.check(Access::Transactions).is_err());
        pooling.0.store(SESSIONS, Ordering::Relaxed);
        assert!(pooling.check(Access::Sessions).is_ok());
    }
}

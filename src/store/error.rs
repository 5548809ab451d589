//! What can go wrong with a database, sorted by what the caller can do about it.

use deadpool::managed::TimeoutType;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_async::pooled_connection::deadpool::PoolError;

/// Why a store operation failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is gone, too slow or not accepting work; the same call may succeed later.
    #[error("database unavailable: {0}")]
    Unavailable(String),
    /// The operation lost against others, on a row that somebody else holds for instance, or took too long. The same
    /// call may succeed later; it says nothing about whether the database can be reached.
    #[error("database busy: {0}")]
    Busy(String),
    /// Every connection is in use; the database itself may be well.
    #[error("no database connection became free in time")]
    PoolExhausted,
    /// A unique value is taken.
    #[error("unique value taken")]
    Conflict,
    /// A row holds what this version cannot read.
    #[error("unreadable row: {0}")]
    Corrupt(String),
    /// The database was migrated by a newer version of this program.
    #[error(
        "the database has migrations that this version does not know ({0}): run a newer version"
    )]
    NewerSchema(String),
    /// Anything else; a fault of this program or of the database's set-up.
    #[error("query failed: {0}")]
    Query(String),
}

impl From<DieselError> for StoreError {
    fn from(error: DieselError) -> Self {
        match error {
            DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => Self::Conflict,
            DieselError::DatabaseError(
                DatabaseErrorKind::UnableToSendCommand
                | DatabaseErrorKind::ClosedConnection
                // The primary has become a standby.
                | DatabaseErrorKind::ReadOnlyTransaction,
                info,
            ) => Self::Unavailable(info.message().to_owned()),
            DieselError::DatabaseError(DatabaseErrorKind::SerializationFailure, info) => {
                Self::Busy(info.message().to_owned())
            }
            DieselError::DatabaseError(_, info) if is_contention(info.message()) => {
                Self::Busy(info.message().to_owned())
            }
            DieselError::DatabaseError(_, info) if is_passing(info.message()) => {
                Self::Unavailable(info.message().to_owned())
            }
            DieselError::BrokenTransactionManager => {
                Self::Unavailable("transaction was cut off".to_owned())
            }
            // The connection went away before the commit, so that the rollback failed as well.
            DieselError::RollbackErrorOnCommit { commit_error, .. } => (*commit_error).into(),
            other => Self::Query(other.to_string()),
        }
    }
}

impl From<PoolError> for StoreError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Timeout(TimeoutType::Wait) => Self::PoolExhausted,
            other => Self::Unavailable(other.to_string()),
        }
    }
}

/// Whether the database's own words say that the trouble will pass. Diesel keeps no SQLSTATE for these, and
/// a server that speaks another language is recognised by its silence (`postgres::judge`).
fn is_passing(message: &str) -> bool {
    const PASSING: [&str; 5] = [
        // PostgreSQL: 57P01, 57P02, 25P03; 57P03; 53300, in two wordings
        "terminating connection",
        "the database system is",
        "too many clients",
        "remaining connection slots are reserved",
        // The same from a pooler in between.
        "server closed the connection",
    ];
    PASSING.iter().any(|words| message.contains(words))
}

/// Whether the database answered that others stood in the way: a time-out of a lock or of a statement, a deadlock.
fn is_contention(message: &str) -> bool {
    const CONTENTION: [&str; 4] = [
        // PostgreSQL: 57014 and 55P03; 40P01
        "canceling statement",
        "deadlock detected",
        // SQLite: SQLITE_BUSY and SQLITE_LOCKED
        "database is locked",
        "database table is locked",
    ];
    CONTENTION.iter().any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: DatabaseErrorKind, message: &str) -> StoreError {
        DieselError::DatabaseError(kind, Box::new(message.to_owned())).into()
    }

    #[test]
    fn passing_trouble_is_told_from_faults() {
        use DatabaseErrorKind::{UnableToSendCommand, UniqueViolation, Unknown};
        assert!(matches!(of(UniqueViolation, "x"), StoreError::Conflict));
        assert!(matches!(
            of(UnableToSendCommand, "x"),
            StoreError::Unavailable(_)
        ));
        for message in [
            "terminating connection due to administrator command",
            "terminating connection because of crash of another server process",
            "terminating connection due to idle-in-transaction timeout",
            "the database system is starting up",
            "the database system is shutting down",
            "the database system is in recovery mode",
            "sorry, too many clients already",
            "remaining connection slots are reserved for roles with the SUPERUSER attribute",
        ] {
            assert!(
                matches!(of(Unknown, message), StoreError::Unavailable(_)),
                "{message}"
            );
        }
        assert!(matches!(of(Unknown, "syntax error"), StoreError::Query(_)));
    }

    #[test]
    fn contention_is_told_from_a_lost_database() {
        use DatabaseErrorKind::{SerializationFailure, Unknown};
        assert!(matches!(of(SerializationFailure, "x"), StoreError::Busy(_)));
        for message in [
            "canceling statement due to statement timeout",
            "canceling statement due to lock timeout",
            "deadlock detected",
            "database is locked",
        ] {
            assert!(
                matches!(of(Unknown, message), StoreError::Busy(_)),
                "{message}"
            );
        }
    }

    #[test]
    fn a_commit_whose_connection_died_is_passing_trouble() {
        let gone = || {
            let message = "connection closed".to_owned();
            DieselError::DatabaseError(DatabaseErrorKind::UnableToSendCommand, Box::new(message))
        };
        let error = DieselError::RollbackErrorOnCommit {
            rollback_error: Box::new(DieselError::BrokenTransactionManager),
            commit_error: Box::new(gone()),
        };
        assert!(matches!(error.into(), StoreError::Unavailable(_)));
        for error in [gone(), DieselError::BrokenTransactionManager] {
            assert!(matches!(error.into(), StoreError::Unavailable(_)));
        }
    }
}

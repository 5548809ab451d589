//! What can go wrong with a database, sorted by what the caller can do about it.

use deadpool::managed::TimeoutType;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_async::pooled_connection::deadpool::PoolError;

/// Why a store operation failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is gone, too slow or not accepting work; the same call may succeed later.
    #[error("database unavailable: {0}")]
    Unavailable(String),
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
                DatabaseErrorKind::UnableToSendCommand | DatabaseErrorKind::ClosedConnection,
                info,
            ) => Self::Unavailable(info.message().to_owned()),
            DieselError::DatabaseError(_, info) if is_passing(info.message()) => {
                Self::Unavailable(info.message().to_owned())
            }
            DieselError::BrokenTransactionManager => {
                Self::Unavailable("transaction was cut off".to_owned())
            }
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

/// Whether the database's own words say that the trouble will pass. Diesel keeps no SQLSTATE for these.
fn is_passing(message: &str) -> bool {
    const PASSING: [&str; 6] = [
        // PostgreSQL: 57P01, 57014, 57P03, 53300
        "terminating connection",
        "canceling statement",
        "the database system is",
        "too many clients",
        // SQLite: SQLITE_BUSY and SQLITE_LOCKED
        "database is locked",
        "database table is locked",
    ];
    PASSING.iter().any(|words| message.contains(words))
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
            "canceling statement due to statement timeout",
            "database is locked",
        ] {
            assert!(
                matches!(of(Unknown, message), StoreError::Unavailable(_)),
                "{message}"
            );
        }
        assert!(matches!(of(Unknown, "syntax error"), StoreError::Query(_)));
    }
}

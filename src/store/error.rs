//! What can go wrong with a database, sorted by what the caller can do about it.
//!
//! Errors are sorted by codes and never by their words, which may be in any language: PostgreSQL's by SQLSTATE
//! (`postgres/sqlstate.rs`), SQLite's by its result codes, of which diesel makes kinds (`sqlite.rs`).

use diesel::result::{DatabaseErrorKind, Error as DieselError};

/// Why a store operation failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The connection was lost, or there is none: the database is gone.
    #[error("database unavailable: {0}")]
    Unavailable(String),
    /// The database takes connections and does not answer.
    #[error("database does not answer: {0}")]
    Silent(String),
    /// The database answers and does not write: read-only, full, without a table or a privilege.
    #[error("database not writable: {0}")]
    NotWritable(String),
    /// The role lacks a privilege. It passes for callers, once somebody grants it, and does not for a start.
    #[error("database privilege missing: {0}")]
    Forbidden(String),
    /// The database answers and could not do this now: a lock, a conflict of transactions, a resource.
    #[error("database busy: {0}")]
    Busy(String),
    /// The server gives no more connections.
    #[error("too many database connections: {0}")]
    TooManyConnections(String),
    /// Every connection of this process is in use; the database itself may be well.
    #[error("no database connection became free in time")]
    PoolExhausted,
    /// A unique value is taken.
    #[error("unique value taken")]
    Conflict,
    /// The change would leave no administrator who can log in.
    #[error("there is no other administrator")]
    LastAdministrator,
    /// A row holds what this version cannot read.
    #[error("unreadable row: {0}")]
    Corrupt(String),
    /// The database was migrated by a newer version of this program.
    #[error(
        "the database has migrations that this version does not know ({0}): run a newer version"
    )]
    NewerSchema(String),
    /// Waiting does not help: a wrong password, an unknown database, a certificate that is not trusted.
    #[error("database refused: {0}")]
    Refused(String),
    /// An error that diesel has no kind for. Whoever holds the connection sorts it by the database's code.
    #[error("database error: {0}")]
    Unsorted(String),
    /// A fault of this program.
    #[error("query failed: {0}")]
    Query(String),
}

impl StoreError {
    /// Whether the database cannot be used, or not be written, whatever the operation is.
    pub const fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_)
                | Self::Silent(_)
                | Self::NotWritable(_)
                | Self::Forbidden(_)
                | Self::TooManyConnections(_)
                | Self::Refused(_)
        )
    }

    /// Whether the same call may succeed later, without anything being changed here.
    pub const fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_)
                | Self::Silent(_)
                | Self::NotWritable(_)
                | Self::Busy(_)
                | Self::TooManyConnections(_)
                | Self::PoolExhausted
        )
    }
}

impl From<DieselError> for StoreError {
    fn from(error: DieselError) -> Self {
        use DatabaseErrorKind as Kind;
        match error {
            DieselError::DatabaseError(kind, info) => {
                let text = info.message().to_owned();
                match kind {
                    Kind::UniqueViolation => Self::Conflict,
                    Kind::UnableToSendCommand | Kind::ClosedConnection => Self::Unavailable(text),
                    // A conflict of transactions that the database resolved at our cost.
                    Kind::SerializationFailure => Self::Busy(text),
                    // The primary has become a standby.
                    Kind::ReadOnlyTransaction => Self::NotWritable(text),
                    Kind::ForeignKeyViolation
                    | Kind::NotNullViolation
                    | Kind::CheckViolation
                    | Kind::RestrictViolation
                    | Kind::ExclusionViolation => Self::Query(text),
                    _ => Self::Unsorted(text),
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: DatabaseErrorKind) -> StoreError {
        DieselError::DatabaseError(kind, Box::new("Verbindung beendet".to_owned())).into()
    }

    #[test]
    fn kinds_decide_and_words_do_not() {
        use DatabaseErrorKind as Kind;
        assert!(matches!(of(Kind::UniqueViolation), StoreError::Conflict));
        assert!(matches!(
            of(Kind::UnableToSendCommand),
            StoreError::Unavailable(_)
        ));
        assert!(matches!(
            of(Kind::SerializationFailure),
            StoreError::Busy(_)
        ));
        assert!(matches!(
            of(Kind::ReadOnlyTransaction),
            StoreError::NotWritable(_)
        ));
        assert!(matches!(of(Kind::NotNullViolation), StoreError::Query(_)));
        assert!(matches!(of(Kind::Unknown), StoreError::Unsorted(_)));
    }

    #[test]
    fn a_commit_whose_connection_was_lost_is_passing() {
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

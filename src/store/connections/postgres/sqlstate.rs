//! What an SQLSTATE means for the caller and for the connection (PostgreSQL manual, appendix A).

use tokio_postgres::error::SqlState;

use crate::store::StoreError;

/// What becomes of connections after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Keep {
    /// The connection is as good as before.
    This,
    /// The connection is closed.
    NotThis,
    /// The connection is closed, and those that are idle with it: the same awaits them.
    None,
}

/// Sorts an error that the server reported with this code.
pub(in crate::store) fn sort(code: &SqlState, message: &str) -> (StoreError, Keep) {
    let text = format!("{message} (SQLSTATE {})", code.code());
    match code.code() {
        "23505" => (StoreError::Conflict, Keep::This),
        // Serialization failure, deadlock, lock time-out, statement time-out: they concern this operation alone.
        "40001" | "40P01" | "55P03" | "57014" => (StoreError::Busy(text), Keep::This),
        // Too many connections: of the server, the role or the database.
        "53300" => (StoreError::TooManyConnections(text), Keep::NotThis),
        // The session is read-only: a standby, a primary that steps down, a setting.
        "25006" => (StoreError::NotWritable(text), Keep::None),
        "42501" => (StoreError::Forbidden(text), Keep::NotThis),
        // Disk full, input or output error; a table, column, function, type or schema that is not there, as after a
        // migration was undone.
        "53100" | "58030" | "42P01" | "42703" | "42883" | "42704" | "3F000" => {
            (StoreError::NotWritable(text), Keep::NotThis)
        }
        // A prepared statement that no longer fits its tables, is gone, or is there twice.
        "0A000" | "26000" | "42P05" => (StoreError::Busy(text), Keep::None),
        // Waiting does not help: password, role, certificate, database.
        "28000" | "28P01" | "3D000" => (StoreError::Refused(text), Keep::NotThis),
        // The session ended, or will: shutdown, crash, recovery, idle for too long, transaction too long.
        "57P01" | "57P02" | "57P03" | "57P04" | "57P05" | "25P03" | "25P04" | "40003" => {
            (StoreError::Unavailable(text), Keep::NotThis)
        }
        other => match &other[..2] {
            // The connection; a pooler reports its own troubles as 08.
            "08" => (StoreError::Unavailable(text), Keep::NotThis),
            // Resources, limits, operator, system, configuration, the server's own faults, damaged data.
            "40" | "53" | "54" | "55" | "57" | "58" | "F0" | "XX" => {
                (StoreError::Busy(text), Keep::NotThis)
            }
            // Data, constraints, syntax: a fault of this program.
            _ => (StoreError::Query(text), Keep::NotThis),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name of the variant, and what is kept.
    fn sorted(code: &str) -> (&'static str, Keep) {
        let (error, keep) = sort(&SqlState::from_code(code), "ZUSTAND");
        let name = match error {
            StoreError::Conflict => "conflict",
            StoreError::Busy(_) => "busy",
            StoreError::TooManyConnections(_) => "too many connections",
            StoreError::NotWritable(_) => "not writable",
            StoreError::Forbidden(_) => "forbidden",
            StoreError::Refused(_) => "refused",
            StoreError::Unavailable(_) => "unavailable",
            StoreError::Query(_) => "query",
            other => panic!("{other}"),
        };
        (name, keep)
    }

    #[test]
    fn every_code_that_an_operator_can_cause_passes_by_itself() {
        for (code, meaning) in [
            ("40001", "busy"),
            ("40P01", "busy"),
            ("55P03", "busy"),
            ("57014", "busy"),
            ("0A000", "busy"),
            ("26000", "busy"),
            ("42P05", "busy"),
            ("53200", "busy"),
            ("53000", "busy"),
            ("54000", "busy"),
            ("55006", "busy"),
            ("XX000", "busy"),
            ("XX001", "busy"),
            ("F0000", "busy"),
            ("53300", "too many connections"),
            ("25006", "not writable"),
            ("53100", "not writable"),
            ("58030", "not writable"),
            ("42501", "forbidden"),
            ("42P01", "not writable"),
            ("42703", "not writable"),
            ("57P01", "unavailable"),
            ("57P02", "unavailable"),
            ("57P03", "unavailable"),
            ("57P05", "unavailable"),
            ("25P03", "unavailable"),
            ("25P04", "unavailable"),
            ("08006", "unavailable"),
            ("08P01", "unavailable"),
        ] {
            assert_eq!(sorted(code).0, meaning, "{code}");
        }
    }

    #[test]
    fn faults_of_this_program_and_of_the_configuration_are_not_called_passing() {
        assert_eq!(sorted("23505"), ("conflict", Keep::This));
        for code in ["22001", "23503", "42601", "22P02", "21000"] {
            assert_eq!(sorted(code), ("query", Keep::NotThis), "{code}");
        }
        for code in ["28P01", "28000", "3D000"] {
            assert_eq!(sorted(code).0, "refused", "{code}");
        }
    }

    #[test]
    fn a_connection_whose_error_is_not_understood_is_closed() {
        assert_eq!(sorted("99999"), ("query", Keep::NotThis));
        assert_eq!(sorted("25006").1, Keep::None);
        assert_eq!(sorted("0A000").1, Keep::None);
        assert_eq!(sorted("55P03").1, Keep::This);
    }
}

//! The settings of every database session, and the checks of its server.

use std::{sync::Arc, time::Duration};

use tokio_postgres::{Client, SimpleQueryMessage};

use super::{observer::Observed, sqlstate::sort};
use crate::{config::TargetServer, store::StoreError};

/// The longest that a statement runs: what takes longer is stuck, and its caller is owed an answer.
const STATEMENT_TIMEOUT: Duration = Duration::from_millis(1_500);

/// The longest that a statement waits for a lock: soon enough for a batch to be tried again one by one (see
/// `rotations`).
const LOCK_TIMEOUT: Duration = Duration::from_millis(600);

/// The longest that a transaction waits for its program: it lets go of its locks then, and can no longer commit a
/// revocation that readers have stopped waiting for (see `revocation::checkpoints`).
const IDLE_IN_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(2);

/// The encoding that texts are stored in: ids, addresses and names are UTF-8.
const ENCODING: &str = "UTF8";

const QUESTION: &str = "SELECT pg_backend_pid(), pg_is_in_recovery(), \
     current_setting('transaction_read_only'), current_setting('server_encoding'), \
     current_setting('statement_timeout'), current_setting('lock_timeout'), \
     current_setting('idle_in_transaction_session_timeout'), \
     current_setting('default_transaction_isolation')";

/// A client and what was observed on its stream.
pub(in crate::store) struct RawSession {
    pub client: Client,
    pub observed: Arc<Observed>,
}

/// What a server says of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub process: i32,
    pub is_standby: bool,
    pub is_read_only: bool,
    encoding: String,
    /// Time-outs and isolation, in the order of [`expected`].
    settings: Vec<String>,
}

/// The statements that set a session. Without row security a query that a policy would cut down is an error: rows that
/// are hidden would look like sessions and keys that do not exist.
///
/// Not as start-up options: PgBouncer refuses those.
pub(super) fn settings() -> String {
    format!(
        "SET statement_timeout = {}; SET lock_timeout = {}; \
         SET idle_in_transaction_session_timeout = {}; \
         SET default_transaction_isolation = 'read committed'; \
         SET row_security = off; ",
        STATEMENT_TIMEOUT.as_millis(),
        LOCK_TIMEOUT.as_millis(),
        IDLE_IN_TRANSACTION_TIMEOUT.as_millis(),
    )
}

/// The settings as the server shows them.
fn expected() -> [&'static str; 4] {
    ["1500ms", "600ms", "2s", "read committed"]
}

impl RawSession {
    /// Asks for the facts, after the statements in `before`; all in one round trip.
    pub(super) async fn ask(&self, before: &str) -> Result<Facts, StoreError> {
        let row = self.row(&format!("{before}{QUESTION}")).await?;
        let text = |index: usize| row.get(index).cloned().unwrap_or_default();
        Ok(Facts {
            process: text(0).parse().unwrap_or_default(),
            is_standby: text(1) == "t",
            is_read_only: text(2) == "on",
            encoding: text(3),
            settings: (4..8).map(text).collect(),
        })
    }

    /// Runs statements by the simple protocol, which needs no prepared statement; the last row, as texts.
    pub(in crate::store) async fn row(&self, statements: &str) -> Result<Vec<String>, StoreError> {
        Ok(self.rows(statements).await?.pop().unwrap_or_default())
    }

    /// All rows.
    pub(in crate::store) async fn rows(
        &self,
        statements: &str,
    ) -> Result<Vec<Vec<String>>, StoreError> {
        self.observed.clear();
        let answered = self.client.simple_query(statements).await;
        let messages = answered.map_err(|error| sorted(&error, &self.observed))?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                let texts = (0..row.len()).map(|index| row.get(index).unwrap_or_default());
                Some(texts.map(str::to_owned).collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    }
}

impl Facts {
    /// Whether the session is what was asked for.
    pub(super) fn check(&self, target: TargetServer) -> Result<(), StoreError> {
        if self.encoding != ENCODING {
            return Err(StoreError::Refused(format!(
                "the database's encoding is {}: create one with ENCODING 'UTF8'",
                self.encoding
            )));
        }
        match target {
            TargetServer::ReadWrite if self.is_read_only => Err(StoreError::NotWritable(
                "the server is read-only, and target_session_attrs=read-write".to_owned(),
            )),
            TargetServer::Primary if self.is_standby => Err(StoreError::NotWritable(
                "the server is a standby, and target_session_attrs=primary".to_owned(),
            )),
            _ => Ok(()),
        }
    }

    /// Whether the settings are in force: a pooler may have swallowed them.
    pub(super) fn check_settings(&self) -> Result<(), StoreError> {
        if self.settings.iter().eq(expected().iter()) {
            return Ok(());
        }
        Err(StoreError::Refused(format!(
            "the time-outs of a session are not in force (they are {}): connect to PostgreSQL itself, or \
             through a pooler with pool_mode = session",
            self.settings.join(", ")
        )))
    }
}

/// Sorts what tokio-postgres reports.
pub(super) fn sorted(error: &tokio_postgres::Error, observed: &Observed) -> StoreError {
    let text = match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    match error.code().cloned().or_else(|| observed.code()) {
        Some(code) => sort(&code, &text).0,
        None => StoreError::Unavailable(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(encoding: &str, settings: [&str; 4]) -> Facts {
        Facts {
            process: 1,
            is_standby: true,
            is_read_only: true,
            encoding: encoding.to_owned(),
            settings: settings.map(str::to_owned).to_vec(),
        }
    }

    #[test]
    fn a_server_that_is_not_what_was_asked_for_is_refused() {
        let standby = facts("UTF8", expected());
        assert!(standby.check(TargetServer::Any).is_ok());
        assert!(standby.check(TargetServer::ReadWrite).is_err());
        assert!(standby.check(TargetServer::Primary).is_err());
        let latin = facts("LATIN1", expected());
        assert!(matches!(
            latin.check(TargetServer::Any),
            Err(StoreError::Refused(_))
        ));
    }

    #[test]
    fn settings_that_are_not_in_force_are_noticed() {
        assert!(facts("UTF8", expected()).check_settings().is_ok());
        let default = facts("UTF8", ["0", "0", "0", "read committed"]);
        assert!(default.check_settings().is_err());
    }

    #[test]
    fn the_statements_say_what_is_expected() {
        let settings = settings();
        for part in [
            "statement_timeout = 1500;",
            "lock_timeout = 600;",
            "timeout = 2000;",
        ] {
            assert!(settings.contains(part), "{settings}");
        }
    }
}

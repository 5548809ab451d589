//! What names a PostgreSQL database and its history, apart from what is stored in its tables.
//!
//! A restored copy of a cluster, and a promoted standby, go on with another timeline; another cluster has another system
//! identifier; a dump that is read back makes a database or a table anew, with another OID. A role may be denied some of
//! the functions, and a managed server may not have them: those are left out, by every replica alike.

use std::sync::OnceLock;

use super::session::RawSession;

const SYSTEM: &str = "(SELECT system_identifier::text FROM pg_control_system())";
/// The first eight digits of the name of a segment are its timeline. `pg_control_checkpoint()` knows the new one only after
/// the next checkpoint.
const TIMELINE: &str = "left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)";
const DATABASE: &str = "(SELECT oid::text FROM pg_database WHERE datname = current_database())";
const TABLE: &str =
    "(SELECT concat(oid, '.', relfilenode) FROM pg_class WHERE oid = 'feed_state'::regclass)";

/// Which functions can be called; unset until a connection has tried.
#[derive(Default)]
pub(super) struct Identity {
    system: OnceLock<bool>,
    timeline: OnceLock<bool>,
}

impl Identity {
    /// Tries the functions that were not tried before, on a session of a primary.
    pub(super) async fn learn(&self, session: &RawSession) {
        for (is_callable, expression) in [(&self.system, SYSTEM), (&self.timeline, TIMELINE)] {
            if is_callable.get().is_some() {
                continue;
            }
            let question = format!("SELECT {expression}");
            let tried = session.client.simple_query(&question).await;
            session.observed.clear();
            let code = tried.as_ref().err().and_then(|error| error.code());
            match (&tried, code.map(|code| code.code().get(..2))) {
                (Ok(_), _) => {
                    let _ = is_callable.set(true);
                }
                // A missing privilege, a function that is not there, a function that is not supported.
                (Err(_), Some(Some("42" | "0A"))) => {
                    tracing::info!(
                        expression,
                        "cannot be called: the epoch of the revocation stream is derived without it"
                    );
                    let _ = is_callable.set(false);
                }
                // The connection failed: the next one tries again.
                (Err(_), _) => {}
            }
        }
    }

    /// An expression that names the database and its history; null on a standby.
    pub(super) fn expression(&self) -> String {
        let callable = |tried: &OnceLock<bool>, expression: &'static str| match tried.get() {
            Some(false) => "'-'",
            _ => expression,
        };
        let parts = [
            callable(&self.system, SYSTEM),
            callable(&self.timeline, TIMELINE),
            DATABASE,
            TABLE,
        ];
        let parts = parts.join(", ");
        format!("CASE WHEN pg_is_in_recovery() THEN NULL ELSE concat_ws('/', {parts}) END")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_called_is_left_out_and_keeps_its_place() {
        let identity = Identity::default();
        assert!(identity.expression().contains("pg_control_system"));
        identity.system.set(false).unwrap();
        identity.timeline.set(true).unwrap();
        let expression = identity.expression();
        assert!(!expression.contains("pg_control_system"));
        assert!(expression.contains("concat_ws('/', '-', left(pg_walfile_name"));
    }
}

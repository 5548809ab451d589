//! A span for each SQL statement, below the span of its operation.
//!
//! The attributes are those of the OpenTelemetry semantic conventions for database client spans. Values are never
//! recorded: a statement is shown with its placeholders.

use std::fmt::{self, Write as _};

use diesel::connection::{
    DebugQuery, Instrumentation, InstrumentationEvent, get_default_instrumentation,
};
use tracing::{Span, field::Empty};

/// What diesel writes between a statement and the values that are bound to it.
const VALUES: &str = " -- binds: ";

const OPERATIONS: [&str; 4] = ["SELECT", "INSERT", "UPDATE", "DELETE"];

/// The most bytes of a statement that a span holds: an INSERT of many rows is longer.
const MAX_TEXT: usize = 4_096;

/// Opens a span when a statement begins, and closes it when the statement has ended. diesel's default instrumentation,
/// if one was set, gets the events as well.
pub(in crate::store) struct StatementSpans {
    system: &'static str,
    current: Option<Span>,
    default: Option<Box<dyn Instrumentation>>,
}

impl StatementSpans {
    /// For a connection to the system of this name, which is a value of `db.system.name`.
    pub(in crate::store) fn new(system: &'static str) -> Self {
        Self {
            system,
            current: None,
            default: get_default_instrumentation(),
        }
    }

    fn open(&mut self, query: &dyn DebugQuery) {
        // A statement outside an operation, such as the ping every second, would be a trace of one span.
        if Span::current().is_disabled() {
            return;
        }
        let span = tracing::debug_span!(
            "statement",
            otel.name = Empty,
            otel.kind = "client",
            otel.status_code = Empty,
            db.system.name = self.system,
            db.query.text = Empty,
        );
        if !span.is_disabled() {
            let text = without_values(query);
            span.record("otel.name", summary(&text));
            span.record("db.query.text", text);
            self.current = Some(span);
        }
    }

    fn close(&mut self, is_failed: bool) {
        if let Some(span) = self.current.take()
            && is_failed
        {
            span.record("otel.status_code", "ERROR");
        }
    }
}

impl Instrumentation for StatementSpans {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match &event {
            InstrumentationEvent::StartQuery { query, .. } => self.open(*query),
            InstrumentationEvent::FinishQuery { error, .. } => self.close(error.is_some()),
            _ => {}
        }
        self.default.on_connection_event(event);
    }
}

/// The text of a statement with placeholders instead of values.
fn without_values(query: &dyn DebugQuery) -> String {
    let mut text = StatementText(String::new());
    // It ends with an error where the values begin.
    let _ = write!(text, "{query}");
    text.0
}

/// Takes what is written to it up to the values, or up to the longest text.
struct StatementText(String);

impl fmt::Write for StatementText {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        self.0.push_str(part);
        let end = self.0.find(VALUES).unwrap_or(self.0.len());
        if end == self.0.len() && end <= MAX_TEXT {
            return Ok(());
        }
        let mut end = end.min(MAX_TEXT);
        while !self.0.is_char_boundary(end) {
            end -= 1;
        }
        self.0.truncate(end);
        Err(fmt::Error)
    }
}

/// The operation and its table, such as `SELECT users`: the name of the span (`db.query.summary`). Of a statement with
/// `WITH`, the first operation in it.
fn summary(text: &str) -> String {
    let words: Vec<_> = text
        .split_whitespace()
        .map(|word| word.trim_start_matches('(').trim_end_matches(';'))
        .collect();
    let Some(first) = words.iter().position(|word| OPERATIONS.contains(word)) else {
        return words.first().unwrap_or(&"statement").to_string();
    };
    let operation = words[first];
    let table = words[first..]
        .windows(2)
        .find(|pair| ["FROM", "INTO", "UPDATE"].contains(&pair[0]))
        .map(|pair| pair[1].trim_matches(['"', '`']))
        .filter(|name| !OPERATIONS.contains(name));
    match table {
        Some(table) => format!("{operation} {table}"),
        None => operation.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use diesel::{debug_query, pg::Pg, prelude::*, sqlite::Sqlite};

    use super::*;
    use crate::store::schema::users;

    #[test]
    fn a_statement_is_shown_without_its_values() {
        let query = users::table
            .filter(users::email.eq("alice@example.com"))
            .select(users::id);
        for text in [
            without_values(&debug_query::<Pg, _>(&query)),
            without_values(&debug_query::<Sqlite, _>(&query)),
        ] {
            assert!(
                text.starts_with("SELECT") && text.contains("WHERE"),
                "{text}"
            );
            assert!(!text.contains("alice") && !text.contains("binds"), "{text}");
        }
    }

    #[test]
    fn a_long_statement_is_cut_off() {
        let mut text = StatementText(String::new());
        assert!(write!(text, "{}", "é".repeat(4_000)).is_err());
        assert_eq!(text.0, "é".repeat(2_048));
    }

    #[test]
    fn a_statement_is_named_after_its_operation_and_table() {
        for (text, name) in [
            (
                "SELECT \"users\".\"id\" FROM \"users\" WHERE 1",
                "SELECT users",
            ),
            (
                "INSERT INTO `sessions` (`id`) VALUES (?)",
                "INSERT sessions",
            ),
            ("UPDATE \"sessions\" SET \"a\" = $1", "UPDATE sessions"),
            ("DELETE FROM proofs", "DELETE proofs"),
            (
                "WITH s AS (INSERT INTO \"sessions\" (\"id\") VALUES ($1)) SELECT 1 FROM s",
                "INSERT sessions",
            ),
            ("COMMIT", "COMMIT"),
            ("BEGIN;", "BEGIN"),
            ("", "statement"),
            ("SELECT (SELECT 1) FROM (SELECT 2) x", "SELECT"),
        ] {
            assert_eq!(summary(text), name);
        }
    }
}

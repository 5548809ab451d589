//! Counts the operations of the database that calls cost. A test that counts needs a process of its own.

use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::{Subscriber, span};
use tracing_subscriber::{
    filter::LevelFilter,
    layer::{Context, Layer, SubscriberExt as _},
    registry::LookupSpan,
};

/// Spans of database operations inside of calls.
static STATEMENTS: AtomicUsize = AtomicUsize::new(0);

/// Counts operations of the database that have a parent: those of background tasks have none.
struct CountStatements;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for CountStatements {
    fn on_new_span(&self, new: &span::Attributes<'_>, _: &span::Id, context: Context<'_, S>) {
        if new.metadata().name() == "database" && context.lookup_current().is_some() {
            STATEMENTS.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Begins to count in this process.
pub fn count_statements() {
    let subscriber = tracing_subscriber::registry()
        .with(CountStatements)
        .with(LevelFilter::DEBUG);
    tracing::subscriber::set_global_default(subscriber)
        .expect("scripts/test gives this test a process of its own");
}

/// How many there were so far.
pub fn statements() -> usize {
    STATEMENTS.load(Ordering::SeqCst)
}

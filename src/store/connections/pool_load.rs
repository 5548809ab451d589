//! How busy the connections are, for metrics.

use std::sync::LazyLock;

use deadpool::Status;
use tracing::Instrument as _;

use crate::{clock::monotonic_now, telemetry::Durations};

/// How long the operations of this process have waited for a connection.
static WAITS: LazyLock<Durations> = LazyLock::new(Durations::new);

/// Traces and counts the wait for a connection apart from the statements.
pub(in crate::store) async fn pool_wait<T>(connection: impl Future<Output = T>) -> T {
    let began = monotonic_now();
    let connection = connection.instrument(tracing::debug_span!("pool wait"));
    let result = connection.await;
    WAITS.observe(began.elapsed());
    result
}

/// How long operations have waited for a connection, also those that got none.
pub fn pool_waits() -> Durations {
    WAITS.clone()
}

/// How busy a pool of connections is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLoad {
    /// What its connections are for: `all`, `readers` or `writer`.
    pub name: &'static str,
    /// Connections held at most.
    pub max: usize,
    /// Connections that an operation uses.
    pub in_use: usize,
    /// Connections that are open and free.
    pub idle: usize,
    /// Operations that wait for one.
    pub waiting: usize,
}

impl PoolLoad {
    pub(in crate::store) fn new(name: &'static str, status: Status) -> Self {
        Self {
            name,
            max: status.max_size,
            in_use: status.size.saturating_sub(status.available),
            idle: status.available,
            waiting: status.waiting,
        }
    }
}

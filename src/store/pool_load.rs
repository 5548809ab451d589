//! How busy the connections are, for metrics.

use deadpool::Status;

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
    pub(super) fn new(name: &'static str, status: Status) -> Self {
        Self {
            name,
            max: status.max_size,
            in_use: status.size.saturating_sub(status.available),
            idle: status.available,
            waiting: status.waiting,
        }
    }
}

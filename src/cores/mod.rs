//! The machine's cores: how many there are, how much of their time the process gets, and which threads get them first.

#[cfg(target_os = "linux")]
mod limit;
mod priority;

use std::{num::NonZeroUsize, sync::LazyLock, thread};

#[cfg(target_os = "linux")]
pub use limit::limit;
pub use priority::Priority;

/// How many cores this process may use: those of the machine, or fewer by affinity or the control group's CPU limit.
pub fn count() -> NonZeroUsize {
    static COUNT: LazyLock<NonZeroUsize> =
        LazyLock::new(|| thread::available_parallelism().unwrap_or(NonZeroUsize::MIN));
    *COUNT
}

/// Elsewhere there are no control groups, and so no limit.
#[cfg(not(target_os = "linux"))]
pub const fn limit() -> Option<f64> {
    None
}

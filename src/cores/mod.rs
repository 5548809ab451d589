//! The machine's cores: how many there are, how much of their time the process gets, and which threads get them first.

mod limit;
mod priority;

use std::{num::NonZeroUsize, sync::LazyLock, thread};

pub use limit::limit;
pub use priority::Priority;

/// How many cores this process may use: those of the machine, or fewer by affinity or the control group's CPU limit.
pub fn count() -> NonZeroUsize {
    static COUNT: LazyLock<NonZeroUsize> =
        LazyLock::new(|| thread::available_parallelism().unwrap_or(NonZeroUsize::MIN));
    *COUNT
}

//! What the machine gives to the process: cores, how much of their time, the priority of threads, and memory.

#[cfg(target_os = "linux")]
mod limit;
mod memory;
mod priority;

use std::{num::NonZeroUsize, sync::LazyLock, thread};

#[cfg(target_os = "linux")]
pub use limit::cpu_limit;
pub use memory::memory_limit;
pub use priority::lower_thread_priority;

/// How many cores this process may use: those of the machine, or fewer by affinity or by the control group's CPU limit.
pub fn count() -> NonZeroUsize {
    static COUNT: LazyLock<NonZeroUsize> =
        LazyLock::new(|| thread::available_parallelism().unwrap_or(NonZeroUsize::MIN));
    *COUNT
}

/// Only Linux has control groups.
#[cfg(not(target_os = "linux"))]
pub const fn cpu_limit() -> Option<f64> {
    None
}

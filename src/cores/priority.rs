//! The scheduling priority of hashing threads.

/// Gives the calling thread the lowest priority (niceness 19), and it alone. If the system refuses, the thread keeps
/// its priority, and the first refusal is logged.
///
/// Weights fall by a fifth with each step of niceness, so such a thread gets about 1.5 % of a core that others want, and
/// all of one that no other thread wants. On Linux, unlike what POSIX says, niceness belongs to the thread (setpriority(2), "C library/kernel
/// differences").
#[cfg(target_os = "linux")]
pub fn lower_thread_priority() {
    use std::sync::Once;

    static WARNED: Once = Once::new();

    if let Err(error) = rustix::process::setpriority_process(None, LOWEST) {
        WARNED.call_once(|| {
            tracing::warn!(%error, "hashing threads run at normal priority: other calls may wait for a CPU core");
        });
    }
}

/// Elsewhere niceness belongs to the whole process, and lowering it would slow all threads alike.
#[cfg(not(target_os = "linux"))]
pub const fn lower_thread_priority() {}

/// The greatest niceness.
#[cfg(target_os = "linux")]
const LOWEST: i32 = 19;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::thread;

    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn only_the_calling_thread_gets_the_lowest_priority() {
        let usual = getpriority_process(None).expect("a priority");
        let lowered = thread::spawn(|| {
            lower_thread_priority();
            getpriority_process(None).expect("a priority")
        });
        assert_eq!(lowered.join().expect("the thread panicked"), LOWEST);
        assert_eq!(getpriority_process(None).expect("a priority"), usual);
        assert_ne!(usual, LOWEST, "the test itself runs at the lowest priority");
    }
}

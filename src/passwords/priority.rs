//! What a hashing thread gets of a core that others want, and how soon they get it.

#[cfg(target_os = "linux")]
pub(super) use linux::give_way;

/// Elsewhere niceness belongs to the whole process, and lowering it would slow requests just as much.
#[cfg(not(target_os = "linux"))]
pub(super) fn give_way() {}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;

    use libc::{SCHED_OTHER, SYS_sched_setattr, sched_attr, syscall};

    /// By how much a worker is nicer than the threads that serve requests.
    ///
    /// The most there is. Weights fall by a fifth with each step, so a worker at 19 gets about 1.5 % of a core that
    /// requests want, and all of one that nobody wants: without other load hashing loses nothing. `SCHED_IDLE` was
    /// measured to be no better; it would starve logins on a busy machine.
    const NICENESS: i32 = 19;

    /// How long a worker would like to keep the core that it has, in nanoseconds: the longest that Linux grants.
    ///
    /// Not for the worker's sake. A low priority says how little of a core a thread gets, not how soon it leaves it:
    /// Linux lets a thread have its slice before it looks whether another one should run, at the next tick, which may
    /// be four milliseconds off. A thread that wakes and asks for less time than that is let in at once
    /// (`PREEMPT_SHORT`, since Linux 6.12); and all that ask for nothing get a few milliseconds.
    const SLICE: u64 = 100_000_000;

    /// Has the calling thread, and it alone, leave the cores to those that serve requests. On Linux, unlike what POSIX
    /// says, niceness belongs to the thread (setpriority(2), "C library/kernel differences").
    pub fn give_way() {
        if let Err(error) = rustix::process::nice(NICENESS) {
            tracing::warn!(%error, "hashing keeps the priority of the threads that serve requests");
        }
        if let Err(error) = ask_for_slice() {
            tracing::warn!(%error, "requests may wait some milliseconds for a core while passwords are hashed");
        }
    }

    /// Linux before 6.12 accepts it and does nothing. The call sets the niceness too, which must not depend on it: a
    /// sandbox may refuse it (seccomp).
    #[expect(unsafe_code, reason = "no library offers sched_setattr(2)")]
    fn ask_for_slice() -> io::Result<()> {
        let attributes = attributes(SLICE);
        // SAFETY: the kernel reads the structure, as far as its `size` says; 0 stands for the calling thread.
        let done = unsafe { syscall(SYS_sched_setattr, 0, &raw const attributes, 0) };
        if done == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    fn attributes(slice: u64) -> sched_attr {
        sched_attr {
            size: u32::try_from(size_of::<sched_attr>()).unwrap_or_default(),
            sched_policy: SCHED_OTHER.cast_unsigned(),
            sched_flags: 0,
            sched_nice: NICENESS,
            sched_priority: 0,
            sched_runtime: slice,
            sched_deadline: 0,
            sched_period: 0,
        }
    }

    #[cfg(test)]
    mod tests {
        use std::thread;

        use super::*;

        /// The niceness and the slice of the calling thread; the slice is 0 before Linux 6.12.
        #[expect(unsafe_code, reason = "no library offers sched_getattr(2)")]
        fn priority() -> (i32, u64) {
            let mut found = attributes(0);
            let size = found.size;
            // SAFETY: the kernel writes no more than `size` bytes; 0 stands for the calling thread.
            let done = unsafe { syscall(libc::SYS_sched_getattr, 0, &raw mut found, size, 0) };
            assert_eq!(done, 0);
            (found.sched_nice, found.sched_runtime)
        }

        #[test]
        fn a_worker_gives_way_and_nobody_else_does() {
            let ours = priority();
            let theirs = thread::spawn(|| {
                give_way();
                priority()
            });
            let slice = if ours.1 == 0 { 0 } else { SLICE };
            assert_eq!(theirs.join().unwrap(), (NICENESS, slice));
            assert_eq!(priority(), ours);
        }
    }
}

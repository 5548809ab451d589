//! Which threads get a core first.

/// What a thread gets of a core that others want, and how soon they get it; from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Threads that serve connections and validate tokens: what any thread gets.
    Connections,
    /// Threads that do the work of other calls: as much as connections, but those are let in at once.
    Calls,
    /// Threads that hash passwords: what nobody else wants, and for no longer than that.
    Hashing,
}

impl Priority {
    /// Gives this priority to the calling thread, and to it alone. What the system refuses is left as it is, and logged
    /// the first time.
    #[cfg(target_os = "linux")]
    pub fn assume(self) {
        use std::sync::Once;

        static TOLD: Once = Once::new();

        if let Err(error) = linux::assume(self) {
            TOLD.call_once(|| tracing::warn!(%error, "calls may wait some milliseconds for a core while others are worked on"));
        }
    }

    /// Elsewhere niceness belongs to the whole process, and lowering it would slow all threads just as much.
    #[cfg(not(target_os = "linux"))]
    pub fn assume(self) {}
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;

    use libc::{SCHED_FLAG_KEEP_POLICY, SCHED_OTHER, SYS_sched_setattr, sched_attr, syscall};
    use rustix::process::nice;

    use super::Priority;
    use crate::cores::count;

    /// By how much a hashing thread is nicer than others.
    ///
    /// The most there is. Weights fall by a fifth with each step, so a thread at 19 gets about 1.5 % of a core that
    /// others want, and all of one that nobody wants: without other load hashing loses nothing. `SCHED_IDLE` was
    /// measured to be no better; it would starve logins on a busy machine.
    const NICENESS: i32 = 19;

    /// On Linux, unlike what POSIX says, niceness belongs to the thread (setpriority(2), "C library/kernel
    /// differences").
    pub(super) fn assume(priority: Priority) -> io::Result<()> {
        // By itself, though the other call sets it too: a sandbox may refuse that one (seccomp).
        let niceness = nice(match priority {
            Priority::Hashing => NICENESS,
            Priority::Connections | Priority::Calls => 0,
        })?;
        let mut attributes = attributes(slice(priority), niceness);
        if priority != Priority::Hashing {
            // An operator may have chosen another policy for the process; hashing must not have it.
            attributes.sched_flags = SCHED_FLAG_KEEP_POLICY as u64;
        }
        set(&attributes)
    }

    /// How long a thread would like to keep the core that it has, in nanoseconds; 0 is the system's choice of a few
    /// milliseconds.
    ///
    /// Not for the thread's own sake. A low priority says how little of a core a thread gets, not how soon it leaves it:
    /// Linux lets a thread have its slice before it looks whether another one should run, at the next tick, which may
    /// be four milliseconds off. A thread that wakes and asks for less time than that is let in at once
    /// (`PREEMPT_SHORT`, since Linux 6.12). The longest that Linux grants is 100 ms.
    ///
    /// Where hashing has the only core, a call that was interrupted waits behind a hash until the next tick, and so may
    /// who interrupted it: there calls and connections had better wait for each other.
    pub(super) fn slice(priority: Priority) -> u64 {
        match priority {
            Priority::Calls if count().get() > 1 => 20_000_000,
            Priority::Connections | Priority::Calls => 0,
            Priority::Hashing => 100_000_000,
        }
    }

    /// Linux before 6.12 accepts a slice and does nothing.
    #[expect(unsafe_code, reason = "no library offers sched_setattr(2)")]
    fn set(attributes: &sched_attr) -> io::Result<()> {
        // SAFETY: the kernel reads the structure, as far as its `size` says; 0 stands for the calling thread.
        let done = unsafe { syscall(SYS_sched_setattr, 0, &raw const *attributes, 0) };
        if done == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    pub(super) fn attributes(slice: u64, niceness: i32) -> sched_attr {
        sched_attr {
            size: u32::try_from(size_of::<sched_attr>()).unwrap_or_default(),
            sched_policy: SCHED_OTHER.cast_unsigned(),
            sched_flags: 0,
            sched_nice: niceness,
            sched_priority: 0,
            sched_runtime: slice,
            sched_deadline: 0,
            sched_period: 0,
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::thread;

    use super::{
        linux::{attributes, slice},
        *,
    };

    /// The niceness and the slice of the calling thread; the slice is 0 before Linux 6.12.
    #[expect(unsafe_code, reason = "no library offers sched_getattr(2)")]
    fn priority() -> (i32, u64) {
        let mut found = attributes(0, 0);
        let size = found.size;
        // SAFETY: the kernel writes no more than `size` bytes; 0 stands for the calling thread.
        let done = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut found, size, 0) };
        assert_eq!(done, 0);
        (found.sched_nice, found.sched_runtime)
    }

    /// What a thread has that assumed these priorities, one after another.
    fn after(priorities: &'static [Priority]) -> (i32, u64) {
        let thread = thread::spawn(move || {
            for priority in priorities {
                priority.assume();
            }
            priority()
        });
        thread.join().expect("the thread panicked")
    }

    #[test]
    fn a_thread_assumes_a_priority_and_no_other_thread_does() {
        let usual = priority();
        let (niceness, usual_slice) = usual;
        let known = |asked: u64| match asked {
            0 => usual_slice,
            _ if usual_slice == 0 => 0,
            asked => asked,
        };
        assert_eq!(after(&[Priority::Hashing]), (19, known(100_000_000)));
        let calls = (niceness, known(slice(Priority::Calls)));
        assert_eq!(after(&[Priority::Calls]), calls);
        assert_eq!(after(&[Priority::Calls, Priority::Connections]), usual);
        assert_eq!(priority(), usual);
    }
}

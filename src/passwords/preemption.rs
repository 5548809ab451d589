//! Moments in the midst of a hash at which other threads get the core.
//!
//! A low priority says how little of a core a thread gets when others want it, not how soon they get it. Linux gives
//! each thread its fair share of time (EEVDF): one that has had a little more waits until the others have made up
//! for it, and a thread of niceness 19 makes up for a millisecond in seventy. So a thread that serves a request
//! now and then waited milliseconds behind a hash. A thread that yields gives up what is owed to it.
//!
//! This is about threads of one session or control group, among which Linux divides what the group has of a core; the
//! connections' threads are in the same as the workers.
//!
//! Argon2 cannot be asked to yield, so a timer's signal interrupts it. It is SIGURG, as with Go's preemption: nobody else
//! needs it, and where nobody handles it nothing happens.

#[cfg(target_os = "linux")]
pub(super) use linux::Preemption;
#[cfg(not(target_os = "linux"))]
pub(super) use none::Preemption;

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        cell::Cell,
        sync::Once,
        time::{Duration, Instant},
    };

    use nix::{
        errno::Errno,
        libc::c_int,
        sys::{
            signal::{
                SaFlags, SigAction, SigEvent, SigHandler, SigSet, SigevNotify, Signal, sigaction,
            },
            timer::{Expiration, Timer, TimerSetTimeFlags},
        },
        time::ClockId,
    };

    use crate::clock::monotonic_now;

    /// How long a hash keeps the core at most while somebody waits for it, in wall-clock time.
    ///
    /// An interruption costs some 20 us on a virtual machine. With 0.3 ms others would wait half as long, for 7 % fewer
    /// logins.
    const INTERVAL: Duration = Duration::from_millis(1);

    const SIGNAL: Signal = Signal::SIGURG;

    thread_local! {
        /// When this thread may yield again. Neither made nor dropped at run time, so that a signal handler may use it.
        static NOT_BEFORE: Cell<Option<Instant>> = const { Cell::new(None) };
    }

    /// Interrupts the jobs of one thread.
    pub struct Preemption(Option<Timer>);

    impl Preemption {
        /// For the calling thread. Where the system has no timer to spare, jobs are run uninterrupted.
        pub fn of_this_thread() -> Self {
            handle_signal();
            let timer = timer().inspect_err(|error| {
                tracing::warn!(%error, "hashing makes other threads wait");
            });
            Self(timer.ok())
        }

        /// Runs a job, on the thread that this was made for.
        pub fn during<T>(&mut self, job: impl FnOnce() -> T) -> T {
            self.set(Expiration::Interval(INTERVAL.into()));
            let result = job();
            self.set(Expiration::OneShot(Duration::ZERO.into()));
            result
        }

        fn set(&mut self, expiration: Expiration) {
            if let Some(timer) = &mut self.0 {
                // There is nothing to be done about it, and nothing that it could fail for.
                let _ = timer.set(expiration, TimerSetTimeFlags::empty());
            }
        }
    }

    fn timer() -> Result<Timer, Errno> {
        let event = SigEvent::new(SigevNotify::SigevThreadId {
            signal: SIGNAL,
            thread_id: rustix::thread::gettid().as_raw_nonzero().get(),
            si_value: 0,
        });
        Timer::new(ClockId::CLOCK_MONOTONIC, event)
    }

    #[expect(unsafe_code, reason = "that is how a signal's handler is set")]
    fn handle_signal() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let handler = SigHandler::Handler(stand_back);
            let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
            // SAFETY: the handler reads the clock, yields and sets a thread-local cell that needs no initialization:
            // it allocates nothing, takes no lock and leaves errno alone (signal-safety(7)).
            let _ = unsafe { sigaction(SIGNAL, &action) };
        });
    }

    /// Lets whoever waits have the core.
    ///
    /// A yield may take long where others never pause. No more than half of the time goes into it: the other half
    /// the thread has what its priority gives it, so that it cannot starve.
    extern "C" fn stand_back(_: c_int) {
        let begin = monotonic_now();
        if NOT_BEFORE
            .get()
            .is_some_and(|not_before| begin < not_before)
        {
            return;
        }
        rustix::thread::sched_yield();
        let end = monotonic_now();
        NOT_BEFORE.set(Some(end + (end - begin)));
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_job_is_interrupted_and_nothing_else_is() {
            let mut preemption = Preemption::of_this_thread();
            assert_eq!(NOT_BEFORE.get(), None);
            // It would go on for ever if nothing interrupted it.
            preemption.during(|| {
                while NOT_BEFORE.get().is_none() {
                    std::hint::spin_loop();
                }
            });
            let elsewhere = std::thread::spawn(|| NOT_BEFORE.get());
            assert_eq!(elsewhere.join().unwrap(), None);
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod none {
    /// Interrupts nothing: only Linux is known to need it.
    pub struct Preemption;

    impl Preemption {
        pub fn of_this_thread() -> Self {
            Self
        }

        pub fn during<T>(&mut self, job: impl FnOnce() -> T) -> T {
            job()
        }
    }
}

//! The queue before the workers: bounded, aware of deadlines, and left at once by callers that stop waiting.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::cpu_share::{CpuShare, REQUEST_WINDOW};
use crate::{clock::monotonic_now, telemetry::Durations};

/// The shortest and the longest time after which a refused caller is asked to come back. The lower
/// bound keeps refused callers from retrying in a loop, the upper one limits what a few slow jobs can do to the
/// estimate.
const RETRY_BOUNDS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// One part in this many of the average job time is replaced by each new job.
const AVERAGING: u32 = 8;

/// Jobs that wait for a worker, first come, first served.
///
/// It is generic so that its rules can be tested without hashing. The lock is held for short: no job runs or is dropped
/// under it.
pub(super) struct Queue<J> {
    cpu_share: CpuShare,
    capacity: usize,
    state: Mutex<State<J>>,
    arrival: Condvar,
    /// How long jobs waited for a worker that ran them.
    waits: Durations,
}

struct State<J> {
    /// Ids ascend from front to back.
    waiting: VecDeque<Waiting<J>>,
    next_id: u64,
    /// Places reserved for jobs that have not been pushed yet.
    reserved: usize,
    running: usize,
    /// Until then no job is started.
    paused_until: Option<Instant>,
    finished: u64,
    refused: u64,
    /// Exponentially weighted average of what a job takes; zero before the first one.
    average: Duration,
    closed: bool,
}

struct Waiting<J> {
    id: u64,
    since: Instant,
    /// Started at this moment or later, the job would end after its caller's deadline.
    start_by: Option<Instant>,
    job: J,
}

/// The job was not admitted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// When the jobs that wait now are expected to be done.
    pub retry_after: Duration,
}

/// What a worker gets.
pub(super) enum Next<J> {
    /// A job to run; [`Queue::finish`] must follow, before its caller gets the answer.
    Run(J),
    /// A job whose deadline passed in the queue: tell its caller, do not run it.
    Late(J, Refused),
    /// No job came in time.
    Nothing,
    /// The queue is closed.
    Closed,
}

/// How busy the workers are; the fields are those of [`HashingLoad`](super::HashingLoad).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueueLoad {
    pub waiting: usize,
    pub running: usize,
    pub at_once: usize,
    pub finished: u64,
    pub refused: u64,
    pub average: Duration,
}

impl<J> Queue<J> {
    /// A queue of at most `capacity` jobs, beyond those that run.
    pub fn new(cpu_share: CpuShare, capacity: usize) -> Self {
        Self {
            cpu_share,
            capacity,
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                next_id: 0,
                reserved: 0,
                running: 0,
                paused_until: None,
                finished: 0,
                refused: 0,
                average: Duration::ZERO,
                closed: false,
            }),
            arrival: Condvar::new(),
            waits: Durations::new(),
        }
    }

    /// How many workers may hash.
    pub const fn cpu_share(&self) -> &CpuShare {
        &self.cpu_share
    }

    /// Reserves a place for a job that must be done by `deadline`: a caller that would be refused learns of it before it
    /// does anything else.
    ///
    /// # Errors
    /// The queue is full, or so long that `deadline` would be missed.
    pub fn reserve(
        self: &Arc<Self>,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Result<Place<J>, Refused> {
        let mut state = self.lock();
        let ahead = state.running + state.waiting.len() + state.reserved;
        if ahead >= self.cpu_share.workers().saturating_add(self.capacity) {
            return Err(self.refuse(&mut state, now));
        }
        // A job that finds an idle worker is admitted whatever the average says: after some slow jobs, only jobs that
        // run can correct the average.
        let latest = |by: Instant| by.checked_sub(state.average).unwrap_or(now);
        let (wait, start_by) = match ahead < self.cpu_share.allowed(now) {
            true => (Duration::ZERO, deadline),
            false => (self.drain_time(&state, now), deadline.map(latest)),
        };
        if start_by.is_some_and(|by| now + wait >= by) {
            return Err(self.refuse(&mut state, now));
        }
        state.reserved += 1;
        Ok(Place {
            queue: Arc::clone(self),
            start_by,
            filled: false,
        })
    }

    /// Puts a job into the place that was reserved for it. Both counts change under one lock: a job that counted twice for
    /// a moment would take another caller's place.
    fn enqueue(self: &Arc<Self>, job: J, start_by: Option<Instant>) -> QueuedJob<J> {
        let mut state = self.lock();
        state.reserved -= 1;
        let id = state.next_id;
        state.next_id += 1;
        let since = monotonic_now();
        state.waiting.push_back(Waiting {
            id,
            since,
            start_by,
            job,
        });
        drop(state);
        self.arrival.notify_one();
        let queue = Arc::clone(self);
        QueuedJob { queue, id }
    }

    /// Waits for a job, at most as long as `patience` if that is given.
    ///
    /// A worker beyond those that may hash at once leaves the jobs to the others, even if it was woken for one.
    pub fn take(&self, patience: Option<Duration>) -> Next<J> {
        let mut state = self.lock();
        loop {
            let now = monotonic_now();
            if let Some(next) = self.next(&mut state, now) {
                return next;
            }
            let held_back = !state.waiting.is_empty();
            // A worker that is held back looks again when the pause is over, or when requests may have stopped.
            let wait = if held_back {
                Some(state.pause(now).unwrap_or(REQUEST_WINDOW))
            } else {
                patience
            };
            let timed_out;
            (state, timed_out) = self.wait(state, wait);
            if timed_out && !held_back && state.waiting.is_empty() && !state.closed {
                return Next::Nothing;
            }
        }
    }

    /// What a worker should do now; `None` when it has to wait.
    fn next(&self, state: &mut State<J>, now: Instant) -> Option<Next<J>> {
        if state.closed {
            return Some(Next::Closed);
        }
        let first = state.waiting.pop_front()?;
        if first.start_by.is_some_and(|by| now >= by) {
            return Some(Next::Late(first.job, self.refuse(state, now)));
        }
        if !self.may_start(state, now) {
            state.waiting.push_front(first);
            return None;
        }
        self.waits
            .observe(now.saturating_duration_since(first.since));
        state.running += 1;
        // The worker that was woken for the next job may have been held back.
        if !state.waiting.is_empty() && self.may_start(state, now) {
            self.arrival.notify_one();
        }
        Some(Next::Run(first.job))
    }

    /// Waits for a notification. Returns whether the time passed instead.
    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State<J>>,
        patience: Option<Duration>,
    ) -> (MutexGuard<'a, State<J>>, bool) {
        let Some(patience) = patience else {
            let notified = self.arrival.wait(state);
            return (notified.unwrap_or_else(PoisonError::into_inner), false);
        };
        let notified = self.arrival.wait_timeout(state, patience);
        let (state, timeout) = notified.unwrap_or_else(PoisonError::into_inner);
        (state, timeout.timed_out())
    }

    /// Records that a job from [`Next::Run`] is done, and how long it took. Its worker counts as free from now on.
    pub fn finish(&self, took: Duration) {
        let mut state = self.lock();
        state.running -= 1;
        state.finished += 1;
        state.average = if state.average.is_zero() {
            took
        } else {
            (state
                .average
                .saturating_mul(AVERAGING - 1)
                .saturating_add(took))
                / AVERAGING
        };
    }

    /// Starts no job before that moment.
    pub fn pause_until(&self, until: Instant) {
        let mut state = self.lock();
        state.paused_until = state.paused_until.max(Some(until));
    }

    /// Drops the jobs that wait, and ends each worker after the job it runs.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let dropped = mem::take(&mut state.waiting);
        drop(state);
        self.arrival.notify_all();
        drop(dropped);
    }

    /// How long the jobs that ran had waited.
    pub fn waits(&self) -> Durations {
        self.waits.clone()
    }

    /// How busy the workers are now.
    pub fn load(&self) -> QueueLoad {
        let state = self.lock();
        QueueLoad {
            waiting: state.waiting.len(),
            running: state.running,
            at_once: self.cpu_share.allowed(monotonic_now()),
            finished: state.finished,
            refused: state.refused,
            average: state.average,
        }
    }

    /// Whether one more worker may start a job now.
    fn may_start(&self, state: &State<J>, now: Instant) -> bool {
        state.pause(now).is_none() && state.running < self.cpu_share.allowed(now)
    }

    fn remove(&self, id: u64) {
        let mut state = self.lock();
        let place = state
            .waiting
            .binary_search_by_key(&id, |waiting| waiting.id);
        let removed = place.ok().and_then(|place| state.waiting.remove(place));
        drop(state);
        drop(removed);
    }

    fn refuse(&self, state: &mut State<J>, now: Instant) -> Refused {
        state.refused += 1;
        let (least, most) = RETRY_BOUNDS;
        let retry_after = self.drain_time(state, now).clamp(least, most);
        Refused { retry_after }
    }

    /// How long one more job would wait for a worker when all are busy.
    fn drain_time(&self, state: &State<J>, now: Instant) -> Duration {
        let rounds = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let ahead = state.waiting.len().saturating_add(state.reserved);
        let jobs = rounds(ahead.saturating_add(1));
        state.average.saturating_mul(jobs) / rounds(self.cpu_share.allowed(now))
    }

    /// A panic under the lock cannot leave the state half-changed, so poisoning is ignored.
    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J> State<J> {
    /// How long no job is started from now on.
    fn pause(&self, now: Instant) -> Option<Duration> {
        let pause = self.paused_until?.saturating_duration_since(now);
        (!pause.is_zero()).then_some(pause)
    }
}

/// A reserved place in the queue. Dropping it frees the place.
pub(super) struct Place<J> {
    queue: Arc<Queue<J>>,
    start_by: Option<Instant>,
    /// The place holds a job: there is nothing to free.
    filled: bool,
}

impl<J> Place<J> {
    /// Puts the job into this place, and keeps it there while the result lives.
    pub fn fill(mut self, job: J) -> QueuedJob<J> {
        self.filled = true;
        self.queue.enqueue(job, self.start_by)
    }
}

impl<J> Drop for Place<J> {
    fn drop(&mut self) {
        if !self.filled {
            self.queue.lock().reserved -= 1;
        }
    }
}

/// A caller's job in the queue. Dropping it frees the place at once: a job that waits is dropped unrun, one that runs is
/// finished.
pub(super) struct QueuedJob<J> {
    queue: Arc<Queue<J>>,
    id: u64,
}

impl<J> Drop for QueuedJob<J> {
    fn drop(&mut self) {
        self.queue.remove(self.id);
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;

//! The line before the workers: bounded, aware of deadlines, and left by whoever stops waiting.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::traffic::{self, Workers};
use crate::clock::monotonic_now;

/// The shortest and the longest time after which a refused caller is asked to come back. The lower
/// bound keeps refused callers from spinning, the upper one keeps a single slow spell from sending
/// them away for good.
const RETRY_BOUNDS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// One part in this many of the average job time is replaced by each new job.
const AVERAGING: u32 = 8;

/// Jobs that wait for a worker, first come, first served.
///
/// It is generic so that its rules can be tested without hashing anything. The lock guards a few
/// moves of pointers: no job runs, is dropped or panics under it.
pub(super) struct Queue<J> {
    workers: Workers,
    capacity: usize,
    state: Mutex<State<J>>,
    arrival: Condvar,
}

struct State<J> {
    /// Ids ascend from front to back.
    waiting: VecDeque<Waiting<J>>,
    next_id: u64,
    /// Places held for jobs that have not come yet.
    reserved: usize,
    running: usize,
    /// Until then no job is begun.
    rests_until: Option<Instant>,
    finished: u64,
    refused: u64,
    /// Exponentially weighted average of what a job takes; zero before the first one.
    average: Duration,
    closed: bool,
}

struct Waiting<J> {
    id: u64,
    /// Begun at this moment or later, the job would end after its caller's deadline.
    start_by: Option<Instant>,
    job: J,
}

/// The job was not let in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// When the jobs that wait now will have been done.
    pub retry_after: Duration,
}

/// What a worker gets.
pub(super) enum Next<J> {
    /// A job to run; [`Queue::finish`] must follow, before anybody learns of its end.
    Run(J),
    /// A job that came to the front too late: tell its caller, do not run it.
    Late(J, Refused),
    /// Nothing came within the worker's patience.
    Nothing,
    /// Nothing will come any more.
    Closed,
}

/// How busy the workers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashingLoad {
    /// Jobs that wait for a worker.
    pub waiting: usize,
    /// Jobs being worked on.
    pub running: usize,
    /// Jobs that may be worked on at once; fewer than there are workers while requests come.
    pub at_once: usize,
    /// Jobs done since the start, good and bad; those dropped unrun are not among them.
    pub finished: u64,
    /// Jobs refused since the start: the line was full, or too slow for their deadline.
    pub refused: u64,
    /// What a job takes a worker, averaged over roughly the last eight; zero before the first.
    pub average: Duration,
}

impl<J> Queue<J> {
    /// A line for at most `capacity` jobs, beyond those that the workers are busy with.
    pub fn new(workers: Workers, capacity: usize) -> Self {
        Self {
            workers,
            capacity,
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                next_id: 0,
                reserved: 0,
                running: 0,
                rests_until: None,
                finished: 0,
                refused: 0,
                average: Duration::ZERO,
                closed: false,
            }),
            arrival: Condvar::new(),
        }
    }

    /// Who does the jobs.
    pub const fn workers(&self) -> &Workers {
        &self.workers
    }

    /// Keeps a place for a job that is worth nothing after `deadline`: who is going to be refused
    /// learns of it before having done anything else.
    ///
    /// # Errors
    /// The line is full, or so long that `deadline` would be missed.
    pub fn reserve(
        self: &Arc<Self>,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Result<Place<J>, Refused> {
        let mut state = self.lock();
        let ahead = state.running + state.waiting.len() + state.reserved;
        if ahead >= self.workers.all().saturating_add(self.capacity) {
            return Err(self.refuse(&mut state, now));
        }
        // A job that meets an idle worker is let in whatever the average says: after one slow
        // spell, only jobs that run can teach the average better.
        let rest = state.rest(now);
        let latest = |by: Instant| by.checked_sub(state.average).unwrap_or(now);
        let (wait, start_by) = match (ahead < self.workers.at_once(now), rest) {
            (true, None) => (Duration::ZERO, deadline),
            (true, Some(rest)) => (rest, deadline.map(latest)),
            (false, rest) => (
                self.drain_time(&state, now) + rest.unwrap_or_default(),
                deadline.map(latest),
            ),
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

    /// Puts a job in a place that was reserved for it. Both under one lock: a job that counted as
    /// coming and as waiting, if only for a moment, would take somebody else's place.
    fn line_up(self: &Arc<Self>, job: J, start_by: Option<Instant>) -> Ticket<J> {
        let mut state = self.lock();
        state.reserved -= 1;
        let id = state.next_id;
        state.next_id += 1;
        state.waiting.push_back(Waiting { id, start_by, job });
        drop(state);
        self.arrival.notify_one();
        let queue = Arc::clone(self);
        Ticket { queue, id }
    }

    /// Waits for a job, for ever or as long as `patience` lasts.
    ///
    /// A worker beyond those that may work at once leaves the jobs to the others, whoever was woken for them.
    pub fn take(&self, patience: Option<Duration>) -> Next<J> {
        let mut state = self.lock();
        loop {
            let now = monotonic_now();
            if let Some(next) = self.next(&mut state, now) {
                return next;
            }
            let held_back = !state.waiting.is_empty();
            // Who is held back looks again when the rest is over, or when the requests may have ended.
            let wait = if held_back {
                Some(state.rest(now).unwrap_or(traffic::LASTING))
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

    /// What there is for a worker just now.
    fn next(&self, state: &mut State<J>, now: Instant) -> Option<Next<J>> {
        if state.closed {
            return Some(Next::Closed);
        }
        let Waiting { id, start_by, job } = state.waiting.pop_front()?;
        if start_by.is_some_and(|by| now >= by) {
            return Some(Next::Late(job, self.refuse(state, now)));
        }
        if !self.has_room(state, now) {
            state.waiting.push_front(Waiting { id, start_by, job });
            return None;
        }
        state.running += 1;
        // Who was woken for the job behind it may have been held back then.
        if !state.waiting.is_empty() && self.has_room(state, now) {
            self.arrival.notify_one();
        }
        Some(Next::Run(job))
    }

    /// Waits until somebody calls, and tells whether nobody did for that long.
    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State<J>>,
        patience: Option<Duration>,
    ) -> (MutexGuard<'a, State<J>>, bool) {
        let Some(patience) = patience else {
            let called = self.arrival.wait(state);
            return (called.unwrap_or_else(PoisonError::into_inner), false);
        };
        let called = self.arrival.wait_timeout(state, patience);
        let (state, timeout) = called.unwrap_or_else(PoisonError::into_inner);
        (state, timeout.timed_out())
    }

    /// Says that a job from [`Next::Run`] is over, and how long it took. Its worker is free from now
    /// on for whoever asks.
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

    /// Begins no job before that moment, whoever is free.
    pub fn rest(&self, until: Instant) {
        let mut state = self.lock();
        state.rests_until = state.rests_until.max(Some(until));
    }

    /// Sends the workers home, as soon as each has done the job in its hands.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let abandoned = mem::take(&mut state.waiting);
        drop(state);
        self.arrival.notify_all();
        drop(abandoned);
    }

    /// How busy the workers are just now.
    pub fn load(&self) -> HashingLoad {
        let state = self.lock();
        HashingLoad {
            waiting: state.waiting.len(),
            running: state.running,
            at_once: self.workers.at_once(monotonic_now()),
            finished: state.finished,
            refused: state.refused,
            average: state.average,
        }
    }

    /// Whether one more worker may work now.
    fn has_room(&self, state: &State<J>, now: Instant) -> bool {
        state.rest(now).is_none() && state.running < self.workers.at_once(now)
    }

    fn withdraw(&self, id: u64) {
        let mut state = self.lock();
        let place = state
            .waiting
            .binary_search_by_key(&id, |waiting| waiting.id);
        let withdrawn = place.ok().and_then(|place| state.waiting.remove(place));
        drop(state);
        drop(withdrawn);
    }

    fn refuse(&self, state: &mut State<J>, now: Instant) -> Refused {
        state.refused += 1;
        let (least, most) = RETRY_BOUNDS;
        let retry_after = self.drain_time(state, now).clamp(least, most);
        Refused { retry_after }
    }

    /// How long it takes until one more job would find a worker, when all are busy.
    fn drain_time(&self, state: &State<J>, now: Instant) -> Duration {
        let rounds = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let ahead = state.waiting.len().saturating_add(state.reserved);
        let jobs = rounds(ahead.saturating_add(1));
        state.average.saturating_mul(jobs) / rounds(self.workers.at_once(now))
    }

    /// A panic under the lock cannot leave the state half-changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J> State<J> {
    /// How long no job is begun from now on.
    fn rest(&self, now: Instant) -> Option<Duration> {
        let rest = self.rests_until?.saturating_duration_since(now);
        (!rest.is_zero()).then_some(rest)
    }
}

/// A place in the line that waits for its job. Dropping it gives the place up.
pub(super) struct Place<J> {
    queue: Arc<Queue<J>>,
    start_by: Option<Instant>,
    /// A job has it: there is nothing to give up.
    filled: bool,
}

impl<J> Place<J> {
    /// Lines the job up in this place, which is kept while the ticket lives.
    pub fn fill(mut self, job: J) -> Ticket<J> {
        self.filled = true;
        self.queue.line_up(job, self.start_by)
    }
}

impl<J> Drop for Place<J> {
    fn drop(&mut self) {
        if !self.filled {
            self.queue.lock().reserved -= 1;
        }
    }
}

/// A caller's job in the line. Dropping it gives the place up at once: a job still waiting is
/// dropped unrun, one already running is let run.
pub(super) struct Ticket<J> {
    queue: Arc<Queue<J>>,
    id: u64,
}

impl<J> Drop for Ticket<J> {
    fn drop(&mut self) {
        self.queue.withdraw(self.id);
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;

//! The hashing workers: threads of low priority that own their memory and survive any job.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{
    argon2id::{HashingBackend, HashingMemory},
    error::HashingError,
    queue::{Next, Queue, Refused},
};
use crate::{
    clock::{cpu_time, monotonic_now},
    cores,
};

/// How long a worker keeps its memory without work: long enough for the pauses between logins at quiet times, short
/// enough that an idle server is small.
const IDLE: Duration = Duration::from_secs(10);

/// A piece of work for a worker.
pub(super) trait Job: Send + 'static {
    /// Does the work, and returns what remains to be done: to answer the caller.
    fn run(self, memory: &mut HashingMemory) -> impl FnOnce();

    /// Tells the caller that the deadline passed in the queue.
    fn refuse(self, refused: Refused);
}

/// Starts `workers` threads called `hashing-N` that run the queue's jobs until it is closed.
///
/// # Errors
/// [`HashingError::Spawn`]. Threads already started end when the queue is closed.
pub(super) fn spawn<J: Job>(
    queue: &Arc<Queue<J>>,
    workers: usize,
) -> Result<Vec<JoinHandle<()>>, HashingError> {
    let start = |n| {
        let queue = Arc::clone(queue);
        thread::Builder::new()
            .name(format!("hashing-{n}"))
            .spawn(move || {
                cores::lower_thread_priority();
                work_until_closed(&queue);
            })
    };
    (0..workers)
        .map(start)
        .collect::<Result<_, _>>()
        .map_err(HashingError::Spawn)
}

/// A panic outside a job's own guard costs its memory, and the worker starts again.
fn work_until_closed<J: Job>(queue: &Queue<J>) {
    while catch_unwind(AssertUnwindSafe(|| work(queue))).is_err() {
        tracing::error!("a hashing worker panicked and was started again");
    }
}

fn work<J: Job>(queue: &Queue<J>) {
    let mut memory = HashingMemory::new(HashingBackend::detect());
    loop {
        let patience = (memory.held_kib() > 0).then_some(IDLE);
        match queue.take(patience) {
            Next::Run(job) => {
                let started = monotonic_now();
                // A job that panics drops its end of the reply channel, which is how its caller learns of it. Any
                // content of the memory will do for the next job.
                let answer = catch_unwind(AssertUnwindSafe(|| job.run(&mut memory)));
                // Before the answer: a caller that comes back at once must find the worker free, and at this priority
                // the next line may be reached late.
                let ended = monotonic_now();
                queue.pause_until(ended + queue.cpu_share().pause(ended, cpu_time()));
                queue.finish(ended - started);
                if let Ok(answer) = answer {
                    answer();
                }
            }
            Next::Late(job, refused) => job.refuse(refused),
            Next::Nothing => memory.release(),
            Next::Closed => return,
        }
    }
}

#[cfg(test)]
#[path = "workers_tests.rs"]
mod tests;

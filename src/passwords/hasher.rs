//! The worker threads: they give way to everything else, own their memory, and outlive any job.

use std::{
    hint::black_box,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{
    error::HashingFault,
    memory::Memory,
    queue::{Next, Queue, Refused},
};
use crate::{
    clock::{cpu_time, monotonic_now},
    cores::Priority,
};

/// How long a worker keeps its memory without work: long enough for the pauses between logins on a
/// quiet morning, short enough that an idle server is a small one.
const IDLE: Duration = Duration::from_secs(10);

/// How long after that the allocator is reminded to pass the memory on to the system; see [`remind`].
const SETTLE: Duration = Duration::from_secs(2);

/// A piece of work for a worker.
pub(super) trait Job: Send + 'static {
    /// Does the work, and returns what remains: to answer the caller.
    fn run(self, memory: &mut Memory) -> impl FnOnce();

    /// Answers the caller that it came to the front too late.
    fn refuse(self, refused: Refused);
}

/// Starts `workers` threads called `hashing-N` that run the queue's jobs until it is closed.
///
/// # Errors
/// [`HashingFault::Spawn`]. Threads already started end when the queue is closed.
pub(super) fn spawn<J: Job>(
    queue: &Arc<Queue<J>>,
    workers: usize,
) -> Result<Vec<JoinHandle<()>>, HashingFault> {
    let start = |n| {
        let queue = Arc::clone(queue);
        thread::Builder::new()
            .name(format!("hashing-{n}"))
            .spawn(move || {
                Priority::Hashing.assume();
                work(&queue);
            })
    };
    (0..workers)
        .map(start)
        .collect::<Result<_, _>>()
        .map_err(HashingFault::Spawn)
}

fn work<J: Job>(queue: &Queue<J>) {
    let mut memory = Memory::default();
    let mut patience = None;
    loop {
        match queue.take(patience) {
            Next::Run(job) => {
                let started = monotonic_now();
                // A job that panics drops its end of the reply channel, which is how its caller
                // learns of it. Memory has no invariant that a panic could break: any content will do.
                let answer = catch_unwind(AssertUnwindSafe(|| job.run(&mut memory)));
                // Before the answer: who has it and comes back at once must find the worker free,
                // and at this priority the next line may be long in coming.
                let ended = monotonic_now();
                queue.rest(ended + queue.workers().rest(ended, cpu_time()));
                queue.finish(ended - started);
                if let Ok(answer) = answer {
                    answer();
                }
                patience = Some(IDLE);
            }
            Next::Late(job, refused) => job.refuse(refused),
            Next::Nothing if memory.is_held() => {
                memory.release();
                patience = Some(SETTLE);
            }
            Next::Nothing => {
                remind();
                patience = None;
            }
            Next::Closed => return,
        }
    }
}

/// Ends a thread that has allocated something: that is when mimalloc looks for memory freed more than
/// a second ago to pass on to the system, and in a process that idles nothing else makes it look.
/// Other allocators need no reminder and take no harm.
fn remind() {
    let thread = thread::Builder::new().spawn(|| drop(black_box(Box::new([1_u8; 1024]))));
    if let Ok(thread) = thread {
        let _ = thread.join();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::{
        super::{queue::Ticket, traffic::Workers},
        *,
    };

    /// A job that tells what becomes of it.
    enum TestJob {
        /// Says the name of its thread, then runs until its gate is opened or dropped.
        Hold(Sender<String>, Receiver<()>),
        Say(&'static str, Sender<String>),
        Panic,
    }

    impl Job for TestJob {
        fn run(self, _: &mut Memory) -> impl FnOnce() {
            let said = match self {
                Self::Hold(said, gate) => {
                    let name = thread::current().name().unwrap_or_default().to_owned();
                    said.send(name).unwrap();
                    let _ = gate.recv();
                    None
                }
                Self::Say(what, said) => Some((what, said)),
                Self::Panic => panic!("this panic is part of a test"),
            };
            move || {
                if let Some((what, said)) = said {
                    said.send(what.to_owned()).unwrap();
                }
            }
        }

        fn refuse(self, _: Refused) {
            if let Self::Say(what, said) = self {
                said.send(format!("{what}, refused")).unwrap();
            }
        }
    }

    /// One worker with room for two more jobs, and where its jobs speak.
    struct Shop {
        queue: Arc<Queue<TestJob>>,
        workers: Vec<JoinHandle<()>>,
        say: Sender<String>,
        said: Receiver<String>,
    }

    impl Shop {
        fn open() -> Self {
            let queue = Arc::new(Queue::new(Workers::new(1, 1, monotonic_now()), 2));
            let workers = spawn(&queue, 1).unwrap();
            let (say, said) = channel();
            Self {
                queue,
                workers,
                say,
                said,
            }
        }

        fn push(&self, job: TestJob) -> Option<Ticket<TestJob>> {
            self.queue.push(job, None, monotonic_now()).ok()
        }

        fn say(&self, what: &'static str) -> TestJob {
            TestJob::Say(what, self.say.clone())
        }

        /// Keeps the worker busy from the moment this returns until the gate is dropped.
        fn hold(&self) -> (Sender<()>, Ticket<TestJob>) {
            let (gate, opened) = channel();
            let ticket = self.push(TestJob::Hold(self.say.clone(), opened)).unwrap();
            assert_eq!(self.said.recv().unwrap(), "hashing-0");
            (gate, ticket)
        }

        /// Closes and returns what was said since.
        fn close(self) -> Vec<String> {
            self.queue.close();
            for worker in self.workers {
                worker.join().expect("a worker died");
            }
            drop(self.say);
            self.said.iter().collect()
        }
    }

    #[test]
    fn who_left_the_line_is_never_served() {
        let shop = Shop::open();
        let (gate, _held) = shop.hold();
        let gone = shop.push(shop.say("gone")).unwrap();
        let _stays = shop.push(shop.say("stays")).unwrap();
        assert!(shop.push(shop.say("no room")).is_none());
        drop(gone);
        let _last = shop.push(shop.say("last")).unwrap();
        drop(gate);
        assert_eq!(shop.said.recv().unwrap(), "stays");
        assert_eq!(shop.said.recv().unwrap(), "last");
        assert_eq!(shop.close(), Vec::<String>::new());
    }

    #[test]
    fn who_came_too_late_is_told_so() {
        let shop = Shop::open();
        let (gate, _held) = shop.hold();
        let now = monotonic_now();
        let earlier = now.checked_sub(IDLE).unwrap();
        let _late = shop
            .queue
            .push(shop.say("late"), Some(now), earlier)
            .ok()
            .unwrap();
        drop(gate);
        assert_eq!(shop.said.recv().unwrap(), "late, refused");
        shop.close();
    }

    #[test]
    fn a_panic_takes_down_its_job_alone() {
        let shop = Shop::open();
        let _bad = shop.push(TestJob::Panic).unwrap();
        let _good = shop.push(shop.say("still here")).unwrap();
        assert_eq!(shop.said.recv().unwrap(), "still here");
        let queue = Arc::clone(&shop.queue);
        shop.close();
        assert_eq!((queue.load().finished, queue.load().running), (2, 0));
    }
}

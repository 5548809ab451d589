//! What happens to jobs whose callers leave, whose deadline passes, or whose work panics.

use std::sync::mpsc::{Receiver, Sender, channel};

use super::{
    super::{cpu_share::CpuShare, queue::QueuedJob},
    *,
};

/// A job that reports what happens to it.
enum TestJob {
    /// Reports the name of its thread, then runs until the other end of the channel is dropped.
    Block(Sender<String>, Receiver<()>),
    Report(&'static str, Sender<String>),
    Panic,
    PanicInAnswer,
}

impl Job for TestJob {
    fn run(self, _: &mut HashingMemory) -> impl FnOnce() {
        let answer: Box<dyn FnOnce()> = match self {
            Self::Block(reports, blocked) => {
                let name = thread::current().name().unwrap_or_default().to_owned();
                reports.send(name).unwrap();
                let _ = blocked.recv();
                Box::new(|| ())
            }
            Self::Report(name, reports) => Box::new(move || reports.send(name.to_owned()).unwrap()),
            Self::Panic => panic!("this panic is part of a test"),
            Self::PanicInAnswer => Box::new(|| panic!("this panic is part of a test")),
        };
        answer
    }

    fn refuse(self, _: Refused) {
        if let Self::Report(name, reports) = self {
            reports.send(format!("{name}, refused")).unwrap();
        }
    }
}

/// One worker whose queue has room for two more jobs.
struct Fixture {
    queue: Arc<Queue<TestJob>>,
    workers: Vec<JoinHandle<()>>,
    sender: Sender<String>,
    reports: Receiver<String>,
}

impl Fixture {
    fn new() -> Self {
        let queue = Arc::new(Queue::new(CpuShare::new(1, 1, monotonic_now()), 2));
        let workers = spawn(&queue, 1).unwrap();
        let (sender, reports) = channel();
        Self {
            queue,
            workers,
            sender,
            reports,
        }
    }

    fn push(&self, job: TestJob) -> Option<QueuedJob<TestJob>> {
        self.queue.push(job, None, monotonic_now()).ok()
    }

    fn report(&self, name: &'static str) -> TestJob {
        TestJob::Report(name, self.sender.clone())
    }

    fn next_report(&self) -> String {
        self.reports.recv().unwrap()
    }

    /// Keeps the worker busy from the moment this returns until the sender is dropped.
    fn block(&self) -> (Sender<()>, QueuedJob<TestJob>) {
        let (sender, blocked) = channel();
        let job = TestJob::Block(self.sender.clone(), blocked);
        let queued = self.push(job).unwrap();
        assert_eq!(self.next_report(), "hashing-0");
        (sender, queued)
    }

    /// Closes the queue and returns what was not read of the reports.
    fn close(self) -> Vec<String> {
        self.queue.close();
        for worker in self.workers {
            worker.join().expect("a worker panicked");
        }
        drop(self.sender);
        self.reports.iter().collect()
    }
}

#[test]
fn a_job_whose_caller_left_the_queue_is_not_run() {
    let fixture = Fixture::new();
    let (blocked, _running) = fixture.block();
    let left = fixture.push(fixture.report("left")).unwrap();
    let _stays = fixture.push(fixture.report("stays")).unwrap();
    assert!(fixture.push(fixture.report("no room")).is_none());
    drop(left);
    let _last = fixture.push(fixture.report("last")).unwrap();
    drop(blocked);
    assert_eq!(fixture.next_report(), "stays");
    assert_eq!(fixture.next_report(), "last");
    assert_eq!(fixture.close(), Vec::<String>::new());
}

#[test]
fn a_job_whose_deadline_passed_in_the_queue_is_refused() {
    let fixture = Fixture::new();
    let (blocked, _running) = fixture.block();
    let now = monotonic_now();
    let earlier = now.checked_sub(IDLE).unwrap();
    let late = fixture.report("late");
    let _late = fixture.queue.push(late, Some(now), earlier).ok().unwrap();
    drop(blocked);
    assert_eq!(fixture.next_report(), "late, refused");
    fixture.close();
}

#[test]
fn a_worker_survives_a_job_that_panics_in_its_work_or_its_answer() {
    for bad in [TestJob::Panic, TestJob::PanicInAnswer] {
        let fixture = Fixture::new();
        let _bad = fixture.push(bad).unwrap();
        let _good = fixture.push(fixture.report("good")).unwrap();
        assert_eq!(fixture.next_report(), "good");
        let queue = Arc::clone(&fixture.queue);
        fixture.close();
        assert_eq!((queue.load().finished, queue.load().running), (2, 0));
    }
}

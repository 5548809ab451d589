//! The rules of the queue, with words as jobs.

use super::*;

impl<J> Queue<J> {
    /// Reserves a place and fills it.
    pub fn push(
        self: &Arc<Self>,
        job: J,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Result<QueuedJob<J>, Refused> {
        Ok(self.reserve(deadline, now)?.fill(job))
    }
}

const JOB: Duration = Duration::from_millis(200);

/// A queue for that many workers, each with a core of its own.
fn queue<J>(workers: usize, capacity: usize) -> Arc<Queue<J>> {
    let workers = CpuShare::new(workers, workers, monotonic_now());
    Arc::new(Queue::new(workers, capacity))
}

/// A queue whose workers are all busy, with an average of [`JOB`] for a job.
fn busy(workers: usize, capacity: usize) -> Arc<Queue<&'static str>> {
    let queue = queue(workers, capacity);
    for round in 0..2 {
        let jobs: Vec<_> = (0..workers)
            .map(|_| queue.push("busy", None, monotonic_now()).unwrap())
            .collect();
        for _ in &jobs {
            assert_eq!(run(&queue), "busy");
        }
        if round == 0 {
            (0..workers).for_each(|_| queue.finish(JOB));
        }
    }
    assert_eq!(queue.load().average, JOB);
    queue
}

fn run<J>(queue: &Queue<J>) -> J {
    match queue.take(Some(Duration::ZERO)) {
        Next::Run(job) => job,
        Next::Late(..) => panic!("late"),
        Next::Nothing => panic!("nothing"),
        Next::Closed => panic!("closed"),
    }
}

/// A worker finishes its job and takes the next.
fn finish_and_run<J>(queue: &Queue<J>) -> J {
    queue.finish(JOB);
    run(queue)
}

fn refusal<J>(pushed: Result<QueuedJob<J>, Refused>) -> Refused {
    pushed.err().expect("was admitted")
}

#[test]
fn a_full_queue_refuses_with_the_expected_waiting_time() {
    let queue = busy(2, 2);
    let now = monotonic_now();
    let _first = queue.push("first", None, now).unwrap();
    let _second = queue.push("second", None, now).unwrap();
    let retry_after = JOB * 3 / 2;
    assert_eq!(
        refusal(queue.push("third", None, now)),
        Refused { retry_after }
    );
    assert_eq!(finish_and_run(&queue), "first");
    assert!(queue.push("third", None, now).is_ok());
}

#[test]
fn a_queue_without_capacity_admits_jobs_for_idle_workers_only() {
    let queue = queue(1, 0);
    let now = monotonic_now();
    let _queued = queue.push("a", None, now).unwrap();
    let (least, _) = RETRY_BOUNDS;
    assert_eq!(refusal(queue.push("b", None, now)).retry_after, least);
}

#[test]
fn a_dropped_job_frees_its_place_at_once_and_is_not_run() {
    let queue = busy(1, 2);
    let now = monotonic_now();
    let gone = queue.push("gone", None, now).unwrap();
    let _stays = queue.push("stays", None, now).unwrap();
    assert!(queue.push("no room", None, now).is_err());
    drop(gone);
    assert_eq!(queue.load().waiting, 1);
    let _late = queue.push("late", None, now).unwrap();
    assert_eq!(finish_and_run(&queue), "stays");
    assert_eq!(finish_and_run(&queue), "late");
    assert!(matches!(queue.take(Some(Duration::ZERO)), Next::Nothing));
}

#[test]
fn dropping_a_finished_job_frees_no_other_place() {
    let queue = busy(1, 4);
    let done = queue.push("done", None, monotonic_now()).unwrap();
    assert_eq!(finish_and_run(&queue), "done");
    let _next = queue.push("next", None, monotonic_now()).unwrap();
    drop(done);
    assert_eq!(finish_and_run(&queue), "next");
}

#[test]
fn a_deadline_that_cannot_be_met_is_refused_at_once() {
    let queue = busy(1, 8);
    let now = monotonic_now();
    // One job runs, so ours would begin after one job time and end after two.
    let push = |within: Duration| queue.push("job", Some(now + within), now);
    assert!(push(JOB * 2).is_err());
    let _queued = push(JOB * 2 + Duration::from_millis(1)).unwrap();
    assert!(push(JOB * 2 + Duration::from_millis(1)).is_err());
    assert!(push(JOB * 3 + Duration::from_millis(1)).is_ok());
}

#[test]
fn a_job_for_an_idle_worker_is_admitted_whatever_the_average_says() {
    let queue = busy(1, 8);
    queue.finish(JOB);
    let now = monotonic_now();
    assert!(queue.push("past", Some(now), now).is_err());
    let _queued = queue.push("tight", Some(now + JOB / 4), now).unwrap();
    assert_eq!(run(&queue), "tight");
}

#[test]
fn a_job_whose_deadline_passed_in_the_queue_is_not_run() {
    let queue = busy(1, 8);
    let now = monotonic_now();
    let when_pushed = now.checked_sub(JOB * 10).unwrap();
    let _queued = queue.push("late", Some(now), when_pushed).unwrap();
    match queue.take(None) {
        Next::Late("late", Refused { retry_after }) => assert_eq!(retry_after, JOB),
        _ => panic!("was not late"),
    }
    assert_eq!(queue.load().running, 1);
}

#[test]
fn a_reserved_place_counts_until_it_is_filled_or_dropped() {
    let queue = busy(1, 1);
    let now = monotonic_now();
    let place = queue.reserve(None, now).ok().unwrap();
    assert!(queue.reserve(None, now).is_err());
    drop(place);
    let place = queue.reserve(None, now).ok().unwrap();
    let _queued = place.fill("job");
    assert!(queue.reserve(None, now).is_err());
    assert_eq!(finish_and_run(&queue), "job");
    queue.finish(JOB);
    assert!(queue.reserve(None, now).is_ok());
}

#[test]
fn a_closed_queue_drops_the_jobs_that_wait() {
    let queue = busy(1, 8);
    let _queued = queue.push("never", None, monotonic_now()).unwrap();
    queue.close();
    assert!(matches!(queue.take(None), Next::Closed));
    assert_eq!(queue.load().waiting, 0);
}

#[test]
fn the_average_follows_and_the_retry_delay_stays_within_bounds() {
    let queue = busy(1, 0);
    queue.finish(JOB * 9);
    assert_eq!(queue.load().average, JOB * 2);
    let _queued = queue.push("slow", None, monotonic_now()).unwrap();
    assert_eq!(run(&queue), "slow");
    queue.finish(Duration::MAX);
    let _queued = queue.push("again", None, monotonic_now()).unwrap();
    let (_, most) = RETRY_BOUNDS;
    assert_eq!(
        refusal(queue.push("x", None, monotonic_now())).retry_after,
        most
    );
}

/// A moment after the end of the test: requests are expected during all of it.
fn far_future() -> Instant {
    monotonic_now() + Duration::from_secs(3_600)
}

#[test]
fn one_worker_is_held_back_while_requests_arrive() {
    let queue = queue(2, 3);
    queue.cpu_share().request_arrived(far_future());
    let _first = queue.push("first", None, monotonic_now()).unwrap();
    let _second = queue.push("second", None, monotonic_now()).unwrap();
    assert_eq!(run(&queue), "first");
    let next = queue.next(&mut queue.lock(), monotonic_now());
    assert!(next.is_none(), "it got the second job");
    assert_eq!(queue.load().waiting, 1);
}

#[test]
fn a_worker_that_finishes_takes_the_job_that_another_was_held_back_from() {
    let queue = queue(2, 3);
    queue.cpu_share().request_arrived(far_future());
    let _first = queue.push("first", None, monotonic_now()).unwrap();
    let _second = queue.push("second", None, monotonic_now()).unwrap();
    assert_eq!(run(&queue), "first");
    assert_eq!(finish_and_run(&queue), "second");
}

#[test]
fn the_waiting_time_is_estimated_with_the_workers_that_may_hash() {
    let queue = busy(2, 2);
    let now = monotonic_now();
    let _first = queue.push("first", None, now).unwrap();
    let _second = queue.push("second", None, now).unwrap();
    queue.cpu_share().request_arrived(far_future());
    let retry_after = JOB * 3;
    assert_eq!(
        refusal(queue.push("third", None, now)),
        Refused { retry_after }
    );
}

#[test]
fn no_job_is_started_during_a_pause() {
    let queue = queue(2, 2);
    let now = monotonic_now();
    let over = now + JOB;
    queue.pause_until(over);
    queue.pause_until(now + JOB / 2);
    let _queued = queue.push("job", None, now).unwrap();
    let mut state = queue.lock();
    assert!(queue.next(&mut state, now + JOB * 3 / 4).is_none());
    let next = queue.next(&mut state, over);
    assert!(matches!(next, Some(Next::Run("job"))));
}

#[test]
fn a_worker_continues_when_the_pause_is_over() {
    let queue = queue(1, 1);
    let until = monotonic_now() + Duration::from_millis(20);
    queue.pause_until(until);
    let _queued = queue.push("job", None, monotonic_now()).unwrap();
    assert_eq!(run(&queue), "job");
    assert!(monotonic_now() >= until);
}

//! The rules of the line, tried out with jobs that are words.

use super::*;

impl<J> Queue<J> {
    /// Reserves a place and fills it at once.
    pub fn push(
        self: &Arc<Self>,
        job: J,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Result<Ticket<J>, Refused> {
        Ok(self.reserve(deadline, now)?.fill(job))
    }
}

const JOB: Duration = Duration::from_millis(200);

/// A queue before so many workers, each with a core of its own.
fn line<J>(workers: usize, capacity: usize) -> Arc<Queue<J>> {
    let workers = Workers::new(workers, workers, monotonic_now());
    Arc::new(Queue::new(workers, capacity))
}

/// A queue whose workers are all busy and whose jobs have been taking [`JOB`] each.
fn busy(workers: usize, capacity: usize) -> Arc<Queue<&'static str>> {
    let queue = line(workers, capacity);
    for round in 0..2 {
        let tickets: Vec<_> = (0..workers)
            .map(|_| queue.push("busy", None, monotonic_now()).unwrap())
            .collect();
        for _ in &tickets {
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

/// A worker ends its job and takes the next.
fn go_on<J>(queue: &Queue<J>) -> J {
    queue.finish(JOB);
    run(queue)
}

fn refusal<J>(pushed: Result<Ticket<J>, Refused>) -> Refused {
    pushed.err().expect("was let in")
}

#[test]
fn a_full_line_refuses_and_says_when_it_will_have_drained() {
    let queue = busy(2, 2);
    let now = monotonic_now();
    let _first = queue.push("first", None, now).unwrap();
    let _second = queue.push("second", None, now).unwrap();
    let retry_after = JOB * 3 / 2;
    assert_eq!(
        refusal(queue.push("third", None, now)),
        Refused { retry_after }
    );
    assert_eq!(go_on(&queue), "first");
    assert!(queue.push("third", None, now).is_ok());
}

#[test]
fn without_room_to_wait_only_idle_workers_take_jobs() {
    let queue = line(1, 0);
    let now = monotonic_now();
    let _ticket = queue.push("a", None, now).unwrap();
    let (least, _) = RETRY_BOUNDS;
    assert_eq!(refusal(queue.push("b", None, now)).retry_after, least);
}

#[test]
fn a_dropped_ticket_frees_its_place_at_once_and_its_job_never_runs() {
    let queue = busy(1, 2);
    let now = monotonic_now();
    let gone = queue.push("gone", None, now).unwrap();
    let _stays = queue.push("stays", None, now).unwrap();
    assert!(queue.push("no room", None, now).is_err());
    drop(gone);
    assert_eq!(queue.load().waiting, 1);
    let _late = queue.push("late", None, now).unwrap();
    assert_eq!(go_on(&queue), "stays");
    assert_eq!(go_on(&queue), "late");
    assert!(matches!(queue.take(Some(Duration::ZERO)), Next::Nothing));
}

#[test]
fn a_ticket_dropped_late_takes_nobody_elses_place() {
    let queue = busy(1, 4);
    let done = queue.push("done", None, monotonic_now()).unwrap();
    assert_eq!(go_on(&queue), "done");
    let _next = queue.push("next", None, monotonic_now()).unwrap();
    drop(done);
    assert_eq!(go_on(&queue), "next");
}

#[test]
fn a_deadline_that_the_line_cannot_meet_is_refused_at_once() {
    let queue = busy(1, 8);
    let now = monotonic_now();
    // One job runs, so ours would begin after one job time and end after two.
    let push = |within: Duration| queue.push("job", Some(now + within), now);
    assert!(push(JOB * 2).is_err());
    let _ticket = push(JOB * 2 + Duration::from_millis(1)).unwrap();
    assert!(push(JOB * 2 + Duration::from_millis(1)).is_err());
    assert!(push(JOB * 3 + Duration::from_millis(1)).is_ok());
}

#[test]
fn an_idle_worker_is_tried_whatever_the_average_says() {
    let queue = busy(1, 8);
    queue.finish(JOB);
    let now = monotonic_now();
    assert!(queue.push("past", Some(now), now).is_err());
    let _ticket = queue.push("tight", Some(now + JOB / 4), now).unwrap();
    assert_eq!(run(&queue), "tight");
}

#[test]
fn a_job_whose_deadline_passed_in_the_line_is_not_run() {
    let queue = busy(1, 8);
    let now = monotonic_now();
    let when_pushed = now.checked_sub(JOB * 10).unwrap();
    let _ticket = queue.push("late", Some(now), when_pushed).unwrap();
    match queue.take(None) {
        Next::Late("late", Refused { retry_after }) => assert_eq!(retry_after, JOB),
        _ => panic!("was not late"),
    }
    assert_eq!(queue.load().running, 1);
}

#[test]
fn a_reserved_place_counts_until_it_is_filled_or_given_up() {
    let queue = busy(1, 1);
    let now = monotonic_now();
    let place = queue.reserve(None, now).ok().unwrap();
    assert!(queue.reserve(None, now).is_err());
    drop(place);
    let place = queue.reserve(None, now).ok().unwrap();
    let _ticket = place.fill("job");
    assert!(queue.reserve(None, now).is_err());
    assert_eq!(go_on(&queue), "job");
    queue.finish(JOB);
    assert!(queue.reserve(None, now).is_ok());
}

#[test]
fn a_closed_line_drops_what_waits() {
    let queue = busy(1, 8);
    let _ticket = queue.push("never", None, monotonic_now()).unwrap();
    queue.close();
    assert!(matches!(queue.take(None), Next::Closed));
    assert_eq!(queue.load().waiting, 0);
}

#[test]
fn the_average_follows_and_the_advice_stays_within_bounds() {
    let queue = busy(1, 0);
    queue.finish(JOB * 9);
    assert_eq!(queue.load().average, JOB * 2);
    let _ticket = queue.push("slow", None, monotonic_now()).unwrap();
    assert_eq!(run(&queue), "slow");
    queue.finish(Duration::MAX);
    let _ticket = queue.push("again", None, monotonic_now()).unwrap();
    let (_, most) = RETRY_BOUNDS;
    assert_eq!(
        refusal(queue.push("x", None, monotonic_now())).retry_after,
        most
    );
}

/// A moment that is still to come when the test has long ended: requests come all the while.
fn all_the_while() -> Instant {
    monotonic_now() + Duration::from_secs(3_600)
}

#[test]
fn while_requests_come_one_worker_is_held_back() {
    let queue = line(2, 3);
    queue.workers().make_room(all_the_while());
    let _first = queue.push("first", None, monotonic_now()).unwrap();
    let _second = queue.push("second", None, monotonic_now()).unwrap();
    assert_eq!(run(&queue), "first");
    let next = queue.next(&mut queue.lock(), monotonic_now());
    assert!(next.is_none(), "it got the second job");
    assert_eq!(queue.load().waiting, 1);
}

#[test]
fn a_worker_who_ends_takes_the_job_that_another_was_held_back_from() {
    let queue = line(2, 3);
    queue.workers().make_room(all_the_while());
    let _first = queue.push("first", None, monotonic_now()).unwrap();
    let _second = queue.push("second", None, monotonic_now()).unwrap();
    assert_eq!(run(&queue), "first");
    assert_eq!(go_on(&queue), "second");
}

#[test]
fn the_wait_is_reckoned_with_the_workers_who_may_work() {
    let queue = busy(2, 2);
    let now = monotonic_now();
    let _first = queue.push("first", None, now).unwrap();
    let _second = queue.push("second", None, now).unwrap();
    queue.workers().make_room(all_the_while());
    let retry_after = JOB * 3;
    assert_eq!(
        refusal(queue.push("third", None, now)),
        Refused { retry_after }
    );
}

#[test]
fn while_the_workers_rest_nobody_begins_a_job() {
    let queue = line(2, 2);
    let now = monotonic_now();
    let rested = now + JOB;
    queue.rest(rested);
    queue.rest(now + JOB / 2);
    let _ticket = queue.push("job", None, now).unwrap();
    let mut state = queue.lock();
    assert!(queue.next(&mut state, now + JOB * 3 / 4).is_none());
    let next = queue.next(&mut state, rested);
    assert!(matches!(next, Some(Next::Run("job"))));
}

#[test]
fn who_cannot_wait_for_the_rest_to_end_is_refused() {
    let queue = line::<&str>(1, 1);
    let now = monotonic_now();
    queue.rest(now + JOB);
    assert!(queue.reserve(Some(now + JOB / 2), now).is_err());
    assert!(queue.reserve(Some(now + JOB * 2), now).is_ok());
    let rested = now + JOB;
    assert!(queue.reserve(Some(rested + JOB / 2), rested).is_ok());
}

#[test]
fn a_worker_comes_back_when_the_rest_is_over() {
    let queue = line(1, 1);
    let until = monotonic_now() + Duration::from_millis(20);
    queue.rest(until);
    let _ticket = queue.push("job", None, monotonic_now()).unwrap();
    assert_eq!(run(&queue), "job");
    assert!(monotonic_now() >= until);
}

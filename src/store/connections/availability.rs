//! When this replica could not reach its database: the time that the grace of a refresh token leaves out.
//!
//! An outage begins with the start of the first operation that failed, not with the moment at which its time-out fired:
//! what that operation wrote may have been committed at once. It ends with the next operation that succeeds.
//!
//! A lost connection is an outage at once. An operation that took too long, or that waited in vain for a row, may have
//! met a busy row alone, which a caller can bring about; it counts when the next ping fails as well.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    clock::{Clock, Timestamp},
    domain::{LONGEST_ALLOWANCE, Outage},
    store::StoreError,
};

/// How many outages are remembered. When there are more, the two oldest become one, as if the time between them had
/// belonged to it.
const REMEMBERED: usize = 64;

/// After this long an outage decides nothing: twice the longest allowance is more than that with any grace.
const RELEVANT_FOR: Duration = Duration::from_secs(2 * LONGEST_ALLOWANCE.as_secs());

/// A pause in the process's own ticks that is taken for a suspension; a busy machine makes shorter ones.
const SUSPENDED: Duration = Duration::from_secs(15);

/// The outages of this replica, on the monotonic clock.
#[derive(Debug)]
pub(in crate::store) struct Availability {
    clock: Clock,
    timeline: Mutex<Timeline>,
}

#[derive(Debug, Default)]
struct Timeline {
    /// When the process began to serve; `None` while it does not.
    serving_since: Option<Duration>,
    /// The outage that is not over.
    failing: Option<Failing>,
    /// When the first operation began that was too slow, since the last ping that succeeded.
    slow_since: Option<Duration>,
    /// Outages that are over: beginning and end.
    past: VecDeque<(Duration, Duration)>,
    /// When the process last ticked, on the machine's own clock.
    ticked_at: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Failing {
    /// When the first operation began that failed.
    since: Duration,
    /// When the last operation failed.
    failed_at: Duration,
}

impl Availability {
    pub(in crate::store) fn new(clock: Clock) -> Self {
        Self {
            clock,
            timeline: Mutex::default(),
        }
    }

    /// The clock of this replica.
    pub(in crate::store) const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The time of day.
    pub(in crate::store) fn time_of_day(&self) -> Timestamp {
        self.clock.now()
    }

    /// The clock that times operations.
    pub(in crate::store) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Learns from an operation that began at `began`.
    pub(in crate::store) fn record<T>(&self, began: Duration, result: &Result<T, StoreError>) {
        match result {
            Ok(_) => self.lock().succeed(began),
            Err(error) if error.is_outage() => self.fail(began),
            Err(StoreError::Busy(_)) => {
                self.lock().slow_since.get_or_insert(began);
            }
            // A busy pool is no sign of an outage; the other failures are answers of the database.
            Err(_) => {}
        }
    }

    /// Learns from a ping, which fails when nothing can be written.
    pub(in crate::store) fn record_ping(&self, began: Duration, result: &Result<(), StoreError>) {
        if is_outage(result) {
            let slow_since = self.lock().slow_since.take();
            self.fail(slow_since.map_or(began, |earlier| earlier.min(began)));
        } else {
            let mut timeline = self.lock();
            timeline.slow_since = None;
            timeline.succeed(began);
        }
    }

    fn fail(&self, began: Duration) {
        let failed_at = self.now();
        self.lock().fail(began, failed_at);
    }

    /// Notes that the process serves from now on.
    pub(in crate::store) fn serve(&self) {
        let now = self.now();
        self.lock().serving_since.get_or_insert(now);
    }

    /// To be called every few seconds: a long pause between two calls means that the process was suspended.
    pub(in crate::store) fn tick(&self) {
        // The machine's clock: a test that moves its own has not suspended anything.
        let machine = Clock::System.monotonic();
        let now = self.now();
        let mut timeline = self.lock();
        let before = timeline.ticked_at.replace(machine);
        let pause = before.map_or(Duration::ZERO, |before| machine.saturating_sub(before));
        if pause >= SUSPENDED {
            timeline.remember(now.saturating_sub(pause), now);
        }
    }

    /// The outages that may still decide something, in no order. The time before the process began to serve is one.
    pub(in crate::store) fn outages(&self) -> Vec<Outage> {
        // The time of day is read first, so that no outage seems to have ended later than it did.
        let (now, monotonic) = (self.clock.now(), self.now());
        let timeline = self.lock();
        let at = |then: Duration| now - monotonic.saturating_sub(then);
        let span = |began, ended| Outage {
            began: at(began),
            ended: at(ended),
        };
        let relevant = |ended: Duration| ended + RELEVANT_FOR > monotonic;
        let past = timeline.past.iter();
        let past = past.filter(|(_, ended)| relevant(*ended));
        let mut outages: Vec<Outage> = past.map(|(began, ended)| span(*began, *ended)).collect();
        outages.extend(
            timeline
                .failing
                .map(|failing| span(failing.since, monotonic)),
        );
        let start = timeline.serving_since.unwrap_or(monotonic);
        if relevant(start) {
            outages.push(Outage::until(at(start)));
        }
        outages
    }

    /// The same without the time before the start, which is no outage of the deployment.
    pub(in crate::store) fn outages_while_serving(&self) -> Vec<Outage> {
        let mut outages = self.outages();
        outages.retain(|outage| outage.began > Timestamp::from_micros(i64::MIN));
        outages
    }

    fn lock(&self) -> MutexGuard<'_, Timeline> {
        self.timeline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a ping shows that the database cannot be used.
const fn is_outage(result: &Result<(), StoreError>) -> bool {
    match result {
        Ok(()) => false,
        Err(StoreError::Busy(_) | StoreError::PoolExhausted) => true,
        Err(error) => error.is_outage(),
    }
}

impl Timeline {
    fn fail(&mut self, began: Duration, failed_at: Duration) {
        let earlier = self.failing.map_or(began, |failing| failing.since);
        self.failing = Some(Failing {
            since: earlier.min(began),
            failed_at,
        });
    }

    /// An operation that began before the one that failed proves nothing about the time after it. The outage is over
    /// when the operation that succeeds begins, and not when it ends, so that the session which it rotates counts as
    /// rotated after the outage.
    fn succeed(&mut self, began: Duration) {
        if let Some(failing) = self.failing.take_if(|failing| failing.since <= began) {
            self.remember(failing.since, began.max(failing.failed_at));
        }
    }

    fn remember(&mut self, began: Duration, ended: Duration) {
        self.past.retain(|(_, old)| *old + RELEVANT_FOR > ended);
        self.past.push_back((began, ended));
        if self.past.len() > REMEMBERED
            && let Some(oldest) = self.past.pop_front()
            && let Some(next) = self.past.front_mut()
        {
            *next = (oldest.0.min(next.0), oldest.1.max(next.1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const START: Timestamp = Timestamp::from_seconds(1_795_478_400);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn outage(began: u64, ended: u64) -> Outage {
        Outage {
            began: START + seconds(began),
            ended: START + seconds(ended),
        }
    }

    fn serving() -> (ManualClock, Availability) {
        let clock = ManualClock::new(START);
        let availability = Availability::new(Clock::Manual(clock.clone()));
        availability.serve();
        (clock, availability)
    }

    fn gone() -> Result<(), StoreError> {
        Err(StoreError::Unavailable("gone".to_owned()))
    }

    #[test]
    fn an_outage_lasts_from_the_first_failing_operation_to_the_next_success() {
        let (clock, availability) = serving();
        clock.advance(seconds(100));
        // It began at 90 and failed at 100.
        availability.record(seconds(90), &gone());
        assert_eq!(availability.outages_while_serving(), [outage(90, 100)]);
        clock.advance(seconds(20));
        assert_eq!(availability.outages_while_serving(), [outage(90, 120)]);
        availability.record(seconds(95), &gone());
        clock.advance(seconds(50));
        availability.record(seconds(165), &Ok(()));
        clock.advance(seconds(50));
        availability.record(seconds(200), &Ok(()));
        assert_eq!(availability.outages_while_serving(), [outage(90, 165)]);
    }

    #[test]
    fn an_outage_is_not_over_before_its_last_operation_has_failed() {
        let (clock, availability) = serving();
        clock.advance(seconds(100));
        availability.record(seconds(90), &gone());
        availability.record(seconds(91), &Ok(()));
        clock.advance(seconds(10));
        assert_eq!(availability.outages_while_serving(), [outage(90, 100)]);
    }

    #[test]
    fn a_success_that_began_before_the_failure_does_not_end_the_outage() {
        let (clock, availability) = serving();
        clock.advance(seconds(100));
        availability.record(seconds(50), &gone());
        availability.record(seconds(49), &Ok(()));
        assert_eq!(availability.outages_while_serving(), [outage(50, 100)]);
    }

    #[test]
    fn answers_of_the_database_are_no_outage() {
        let (clock, availability) = serving();
        clock.advance(seconds(10));
        for answer in [
            StoreError::Busy("a row is locked".to_owned()),
            StoreError::PoolExhausted,
            StoreError::Conflict,
            StoreError::Query("syntax error".to_owned()),
        ] {
            availability.record(seconds(5), &Err::<(), _>(answer));
        }
        assert_eq!(availability.outages_while_serving(), []);
    }

    #[test]
    fn slow_operations_are_an_outage_when_the_next_ping_fails_too() {
        let (clock, availability) = serving();
        let busy = || Err(StoreError::Busy("no answer in time".to_owned()));
        clock.advance(seconds(10));
        availability.record(seconds(5), &busy());
        availability.record_ping(seconds(6), &Ok(()));
        clock.advance(seconds(10));
        availability.record(seconds(15), &busy());
        availability.record(seconds(16), &Ok(()));
        assert_eq!(availability.outages_while_serving(), []);
        availability.record_ping(seconds(17), &busy());
        assert_eq!(availability.outages_while_serving(), [outage(15, 20)]);
        clock.advance(seconds(10));
        availability.record_ping(seconds(29), &Ok(()));
        assert_eq!(availability.outages_while_serving(), [outage(15, 29)]);
    }

    #[test]
    fn the_time_before_the_start_is_an_outage_of_this_replica_alone() {
        let clock = ManualClock::new(START);
        let availability = Availability::new(Clock::Manual(clock.clone()));
        clock.advance(seconds(30));
        let now = START + seconds(30);
        assert_eq!(availability.outages(), [Outage::until(now)]);
        availability.serve();
        clock.advance(seconds(30));
        availability.serve();
        assert_eq!(availability.outages(), [Outage::until(now)]);
        assert_eq!(availability.outages_while_serving(), []);
        clock.advance(RELEVANT_FOR);
        assert_eq!(availability.outages(), []);
    }

    #[test]
    fn memory_is_bounded_and_no_outage_is_lost() {
        let (clock, availability) = serving();
        clock.advance(seconds(400));
        for second in 0..200 {
            availability.record(seconds(second), &gone());
            availability.record(seconds(second), &Ok(()));
        }
        let outages = availability.outages_while_serving();
        assert_eq!(outages.len(), REMEMBERED);
        let began = outages.iter().map(|outage| outage.began).min();
        assert_eq!(began, Some(START));
    }
}

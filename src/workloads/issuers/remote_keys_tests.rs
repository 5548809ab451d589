//! Tests of when keys are fetched.

use super::*;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn the_first_fetch_is_due_at_once() {
    let schedule = Schedule::default();
    assert!(schedule.is_due(Reason::Age, Duration::ZERO));
    assert!(schedule.is_due(Reason::UnknownKey, Duration::ZERO));
}

#[test]
fn keys_are_fetched_every_five_minutes_and_for_an_unknown_key_every_ten_seconds() {
    let schedule = Schedule {
        last_attempt: Some(seconds(100)),
        failed_attempts: 0,
    };
    assert!(!schedule.is_due(Reason::UnknownKey, seconds(109)));
    assert!(schedule.is_due(Reason::UnknownKey, seconds(110)));
    assert!(!schedule.is_due(Reason::Age, seconds(399)));
    assert!(schedule.is_due(Reason::Age, seconds(400)));
}

#[test]
fn the_time_between_failed_fetches_doubles_up_to_two_minutes() {
    for (failed_attempts, interval) in [
        (1, 10),
        (2, 20),
        (3, 40),
        (4, 80),
        (5, 120),
        (u32::MAX, 120),
    ] {
        let schedule = Schedule {
            last_attempt: Some(Duration::ZERO),
            failed_attempts,
        };
        for reason in [Reason::Age, Reason::UnknownKey] {
            assert!(
                !schedule.is_due(reason, seconds(interval - 1)),
                "{failed_attempts}"
            );
            assert!(
                schedule.is_due(reason, seconds(interval)),
                "{failed_attempts}"
            );
        }
    }
}

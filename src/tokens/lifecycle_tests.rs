//! Tests of the states of keys: a case for each rule, and random histories of three replicas.

use proptest::prelude::*;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const START: Timestamp = Timestamp::from_seconds(1_800_000_000);

const POLICY: SigningPolicy = SigningPolicy {
    algorithm: SigningAlgorithm::Es256,
    rotation: Duration::from_secs(24 * 3600),
    lead: Duration::from_secs(300),
    jwks_max_age: Duration::from_secs(300),
    poll_interval: Duration::from_secs(5),
    token_life: Duration::from_secs(1_860),
};
/// 300 s, twice 5 s, 15 s.
const AHEAD: Duration = Duration::from_secs(325);

fn key(ordinal: i32, activates_at: Timestamp) -> KeyTimes {
    KeyTimes {
        ordinal,
        activates_at,
        revoked_at: None,
    }
}

fn revoked(key: KeyTimes, at: Timestamp) -> KeyTimes {
    KeyTimes {
        revoked_at: Some(at),
        ..key
    }
}

fn states(keys: &[KeyTimes], now: Timestamp) -> Vec<KeyState> {
    (0..keys.len())
        .map(|index| state(keys, index, &POLICY, now))
        .collect()
}

#[test]
fn a_key_is_published_then_active_then_retiring_then_gone() {
    let switch = START + DAY;
    let keys = [key(1, START), key(2, switch)];
    let just_before = |moment: Timestamp| Timestamp::from_micros(moment.micros() - 1);
    let until = switch + POLICY.token_life;
    let (active, published) = (KeyState::Active, KeyState::Published);
    for (now, expected) in [
        (START, [active, published]),
        (just_before(switch), [active, published]),
        (switch, [KeyState::Retiring { until }, active]),
        (just_before(until), [KeyState::Retiring { until }, active]),
        (until, [KeyState::Gone, active]),
        (until + DAY * 365, [KeyState::Gone, active]),
    ] {
        assert_eq!(states(&keys, now), expected, "{now}");
    }
    assert!(!is_deletable(&keys, 0, &POLICY, just_before(until + DAY)));
    assert!(is_deletable(&keys, 0, &POLICY, until + DAY));
    assert!(!is_deletable(&keys, 1, &POLICY, until + DAY * 365));
}

#[test]
fn the_first_key_signs_at_once_and_its_successor_is_published_ahead() {
    let first = due_successor(&[], &POLICY, START).unwrap();
    assert_eq!(
        first,
        Successor {
            ordinal: 1,
            activates_at: START
        }
    );
    let keys = [key(1, START)];
    let due = START + POLICY.rotation;
    let early = Timestamp::from_micros((due - AHEAD).micros() - 1);
    assert_eq!(due_successor(&keys, &POLICY, early), None);
    let planned = Some(Successor {
        ordinal: 2,
        activates_at: due,
    });
    assert_eq!(due_successor(&keys, &POLICY, due - AHEAD), planned);
    // A service that was down, or whose operator shortened the rotation, still publishes ahead.
    let late = due + DAY * 60;
    let planned = Successor {
        ordinal: 2,
        activates_at: late + AHEAD,
    };
    assert_eq!(due_successor(&keys, &POLICY, late), Some(planned));
    // One successor is enough.
    let keys = [key(1, START), key(2, late + AHEAD)];
    assert_eq!(due_successor(&keys, &POLICY, late), None);
    assert_eq!(due_successor(&keys, &POLICY, late + AHEAD), None);
}

#[test]
fn a_successor_planned_by_a_clock_that_is_far_ahead_does_not_stop_the_rotation() {
    let due = START + POLICY.rotation;
    let keys = [key(1, START), key(2, due + DAY * 30)];
    let planned = due_successor(&keys, &POLICY, due).unwrap();
    assert_eq!(
        planned,
        Successor {
            ordinal: 3,
            activates_at: due + AHEAD
        }
    );
    let keys = [keys[0], keys[1], key(3, planned.activates_at)];
    assert_eq!(active(&keys, planned.activates_at), Some(2));
    assert_eq!(active(&keys, due + DAY * 31), Some(2));
}

#[test]
fn a_key_of_a_clock_that_is_far_ahead_is_not_pending_and_takes_no_room() {
    let far = key(2, START + DAY * 365);
    let keys = [key(1, START), far];
    assert_eq!(pending(&keys, &POLICY, START), None);
    let next = successor_now(&keys, &POLICY, START).unwrap();
    assert_eq!(next.activates_at, START + AHEAD);
    let keys = [keys[0], far, key(3, next.activates_at)];
    assert_eq!(pending(&keys, &POLICY, START), Some(2));
    let many: Vec<_> = (2..9)
        .map(|ordinal| key(ordinal, START + DAY * 365))
        .collect();
    let many = [&keys[..1], &many].concat();
    assert!(successor_now(&many, &POLICY, START).is_some());
}

#[test]
fn a_clock_that_was_set_back_finds_a_signer_and_no_revoked_key() {
    let keys = [key(1, START), key(2, START + DAY)];
    assert_eq!(active(&keys, START - DAY), Some(0));
    assert_eq!(active(&keys, START + HOUR), Some(0));
    let emergency = START + DAY * 2;
    let keys = [
        revoked(keys[0], emergency),
        revoked(keys[1], emergency),
        key(3, emergency),
    ];
    for now in [START - DAY, START, START + DAY, emergency, emergency + DAY] {
        assert_eq!(
            states(&keys, now),
            [KeyState::Gone, KeyState::Gone, KeyState::Active]
        );
    }
    assert!(!is_deletable(&keys, 0, &POLICY, emergency + HOUR));
    assert!(is_deletable(&keys, 0, &POLICY, emergency + DAY));
    assert_eq!(
        due_successor(&keys[..2], &POLICY, emergency)
            .unwrap()
            .ordinal,
        3
    );
}

/// What may happen to a replica.
#[derive(Clone, Copy, Debug)]
enum Event {
    KeepsUp,
    Rotates,
    Revokes,
}

/// Keys in a database, and what its replicas signed.
#[derive(Default)]
struct Fixture {
    keys: Vec<KeyTimes>,
    created: Vec<Timestamp>,
    /// The index of the key and the signer's time.
    signed: Vec<(usize, Timestamp)>,
}

/// Clocks differ by as much as this from the true time.
const SKEW: i64 = 5;
const TOKEN_TTL: Duration = Duration::from_secs(1_800);

impl Fixture {
    fn apply(&mut self, event: Event, now: Timestamp) {
        let successor = match event {
            Event::KeepsUp => due_successor(&self.keys, &POLICY, now),
            Event::Rotates => {
                let pending = states(&self.keys, now).contains(&KeyState::Published);
                match pending {
                    true => None,
                    false => successor_now(&self.keys, &POLICY, now),
                }
            }
            Event::Revokes => {
                for key in self.keys.iter_mut().filter(|key| key.revoked_at.is_none()) {
                    key.revoked_at = Some(now);
                }
                due_successor(&self.keys, &POLICY, now)
            }
        };
        if let Some(Successor {
            ordinal,
            activates_at,
        }) = successor
        {
            assert!(self.keys.iter().all(|key| key.ordinal < ordinal));
            self.keys.push(key(ordinal, activates_at));
            self.created.push(now);
        }
    }

    fn signs(&mut self, now: Timestamp) {
        let states = states(&self.keys, now);
        let signers = states.iter().filter(|state| **state == KeyState::Active);
        assert_eq!(signers.count(), 1);
        let published = states.iter().filter(|state| state.verifies());
        // A replica whose clock is behind publishes a key for as much longer.
        assert!(published.count() <= MOST_KEYS + 1, "{states:?}");
        let index = active(&self.keys, now).unwrap();
        assert_eq!(states[index], KeyState::Active);
        assert!(!is_deletable(&self.keys, index, &POLICY, now));
        // Before a replica signs with it, every replica and every cache has had time to read it.
        let live_before = self.keys[..index]
            .iter()
            .any(|key| key.revoked_at.is_none());
        if live_before {
            let known_for = now.since(self.created[index]);
            assert!(
                known_for + Duration::from_secs(2 * 5) >= AHEAD,
                "{known_for:?}"
            );
        }
        self.signed.push((index, now));
    }

    fn verifies_all(&self, now: Timestamp) {
        for &(index, signed_at) in &self.signed {
            let key = self.keys[index];
            let is_accepted = state(&self.keys, index, &POLICY, now).verifies();
            if key.revoked_at.is_some() {
                assert!(!is_accepted, "a revoked key is accepted");
            } else if now < signed_at + TOKEN_TTL {
                assert!(
                    is_accepted,
                    "a good token of key {} is refused",
                    key.ordinal
                );
            }
            if is_accepted {
                assert!(!is_deletable(&self.keys, index, &POLICY, now));
            }
        }
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        20 => Just(Event::KeepsUp),
        2 => Just(Event::Rotates),
        1 => Just(Event::Revokes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn in_every_history_valid_tokens_are_accepted_and_revoked_keys_are_refused(
        skews in prop::array::uniform3(-SKEW..=SKEW),
        history in prop::collection::vec((0..4_000u64, 0..3usize, event()), 1..120),
    ) {
        let mut fixture = Fixture::default();
        let mut true_time = START;
        let clock = |replica: usize, time: Timestamp| {
            Timestamp::from_seconds(time.seconds() + skews[replica])
        };
        fixture.apply(Event::KeepsUp, true_time);
        for (pause, replica, event) in history {
            true_time = true_time + Duration::from_secs(pause);
            fixture.apply(event, clock(replica, true_time));
            for replica in 0..3 {
                fixture.signs(clock(replica, true_time));
            }
            for replica in 0..3 {
                fixture.verifies_all(clock(replica, true_time));
            }
        }
    }

    #[test]
    fn at_any_time_one_live_key_is_active(
        keys in prop::collection::vec((-90..90i64, any::<bool>()), 0..8),
        now in -200..200i64,
    ) {
        let at = |hours: i64| Timestamp::from_seconds(START.seconds() + hours * 3600);
        let keys: Vec<_> = (1..)
            .zip(keys)
            .map(|(ordinal, (hours, is_revoked))| KeyTimes {
                ordinal,
                activates_at: at(hours),
                revoked_at: is_revoked.then_some(START),
            })
            .collect();
        let now = at(now);
        let states = states(&keys, now);
        let live = keys.iter().filter(|key| key.revoked_at.is_none()).count();
        let active = states.iter().filter(|state| **state == KeyState::Active);
        prop_assert_eq!(active.count(), live.min(1));
        for (index, key) in keys.iter().enumerate() {
            prop_assert!(key.revoked_at.is_none() || states[index] == KeyState::Gone);
            prop_assert!(!is_deletable(&keys, index, &POLICY, now) || states[index] == KeyState::Gone);
        }
    }
}

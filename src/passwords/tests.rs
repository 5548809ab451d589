//! The password service as its callers use it, with cheap parameters.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

use super::*;
use crate::{domain::ViolationReason, secret::Secret};

const SETTINGS: PasswordSettings = PasswordSettings {
    cost: Argon2Cost {
        memory_kib: 64,
        iterations: 1,
        parallelism: 1,
    },
    workers: 2,
    queue: 8,
    min_length: 15,
};

fn passwords(settings: PasswordSettings, pepper: u8) -> Passwords {
    let key = Secret::new([pepper; 32]);
    Passwords::start(
        settings,
        vec![Pepper {
            version: pepper,
            key,
        }],
    )
    .unwrap()
}

fn password(text: &str) -> Password {
    Password::parse("password", text).unwrap()
}

async fn hash(passwords: &Passwords, text: &str) -> Result<PasswordHash, PasswordError> {
    let personal = vec!["ada@example.org".to_owned(), "Ada Lovelace".to_owned()];
    passwords
        .hash_new("new_password", password(text), personal, None)
        .await
}

const GOOD: &str = "correct horse battery staple";

#[tokio::test]
async fn only_the_right_password_is_accepted() {
    let passwords = passwords(SETTINGS, 1);
    let stored = hash(&passwords, GOOD).await.unwrap();
    let verify = |text| passwords.verify(password(text), Some(stored.clone()), None);
    assert_eq!(
        verify(GOOD).await.unwrap(),
        Verdict::Right {
            rehashed: None,
            is_breached: false
        }
    );
    assert_eq!(
        verify("Correct horse battery staple").await.unwrap(),
        Verdict::Wrong
    );
}

#[tokio::test]
async fn an_unknown_user_costs_a_job_and_is_always_wrong() {
    let passwords = passwords(SETTINGS, 1);
    let verdict = passwords.verify(password(GOOD), None, None).await.unwrap();
    assert_eq!(verdict, Verdict::Wrong);
    let load = passwords.load();
    assert_eq!((load.finished, load.running), (1, 0));
    assert!(load.average > Duration::ZERO);
}

#[tokio::test]
async fn a_hash_of_another_cost_is_replaced_by_a_current_one() {
    let old = hash(&passwords(SETTINGS, 1), GOOD).await.unwrap();
    let cost = Argon2Cost {
        iterations: 2,
        ..SETTINGS.cost
    };
    let expensive = passwords(PasswordSettings { cost, ..SETTINGS }, 1);
    let verdict = expensive
        .verify(password(GOOD), Some(old.clone()), None)
        .await
        .unwrap();
    let Verdict::Right {
        rehashed: Some(new),
        ..
    } = verdict
    else {
        panic!("not replaced");
    };
    let verdict = expensive
        .verify(password(GOOD), Some(new), None)
        .await
        .unwrap();
    assert_eq!(
        verdict,
        Verdict::Right {
            rehashed: None,
            is_breached: false
        }
    );
    let wrong = expensive
        .verify(password("wrong"), Some(old), None)
        .await
        .unwrap();
    assert_eq!(wrong, Verdict::Wrong);
}

#[tokio::test]
async fn a_hash_with_an_unknown_pepper_is_not_a_wrong_password() {
    let stored = hash(&passwords(SETTINGS, 1), GOOD).await.unwrap();
    let elsewhere = passwords(SETTINGS, 2);
    let error = elsewhere
        .verify(password(GOOD), Some(stored), None)
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        PasswordError::Internal(HashingError::UnknownPepper { .. })
    ));
}

#[tokio::test]
async fn weak_passwords_are_refused_by_field_and_reason() {
    let passwords = passwords(SETTINGS, 1);
    for (text, reason) in [
        ("short", ViolationReason::TooShort),
        ("Ada Lovelace Ada", ViolationReason::TooGuessable),
    ] {
        match hash(&passwords, text).await {
            Err(PasswordError::Weak(violation)) => {
                assert_eq!(
                    (violation.field, violation.reason),
                    ("new_password", reason)
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_deadline_in_the_past_is_refused_without_a_hash() {
    let passwords = passwords(SETTINGS, 1);
    let past = Some(monotonic_now());
    let error = passwords
        .verify(password(GOOD), None, past)
        .await
        .unwrap_err();
    assert!(matches!(error, PasswordError::Overloaded { .. }));
    assert_eq!(passwords.load().finished, 0);
}

/// A service with a queue before one worker who does not exist, so that nothing depends on time.
fn without_workers(capacity: usize) -> Passwords {
    let key = Secret::new([1; 32]);
    let hasher = PasswordHasher::new(SETTINGS.cost, vec![Pepper { version: 1, key }]).unwrap();
    Passwords(Arc::new(Handle {
        shared: Arc::new(Shared {
            hasher,
            policy: Policy { min_length: 15 },
            failed_login_cost: FailedLoginCost::new(SETTINGS.cost),
            breached: None,
            breached_uses: AtomicU64::new(0),
            work_kib: AtomicU64::new(0),
        }),
        queue: Arc::new(Queue::new(CpuShare::new(1, 1, monotonic_now()), capacity)),
    }))
}

/// The futures are polled by hand.
#[test]
fn a_full_queue_refuses_and_a_dropped_future_frees_its_place() {
    let passwords = without_workers(1);
    let mut context = Context::from_waker(Waker::noop());
    let ask = || Box::pin(passwords.verify(password(GOOD), None, None));
    let (mut first, mut second, mut third) = (ask(), ask(), ask());
    assert!(first.as_mut().poll(&mut context).is_pending());
    assert!(second.as_mut().poll(&mut context).is_pending());
    let refused = pin!(ask()).poll(&mut context);
    assert!(matches!(
        refused,
        std::task::Poll::Ready(Err(PasswordError::Overloaded { .. }))
    ));
    assert_eq!(passwords.load().waiting, 2);
    drop(first);
    assert_eq!(passwords.load().waiting, 1);
    assert!(third.as_mut().poll(&mut context).is_pending());
}

/// As many callers as there are places, each of which calls again as soon as it has its answer: if a job kept its place
/// after the answer, or counted twice for a moment, one of them would be refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_place_in_the_queue_is_free_once_the_caller_has_its_answer() {
    let callers = SETTINGS.workers + SETTINGS.queue;
    let passwords = passwords(SETTINGS, 1);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let passwords = passwords.clone();
        calls.spawn(async move {
            for _ in 0..200 {
                let verdict = passwords.verify(password(GOOD), None, None).await;
                assert_eq!(verdict.unwrap(), Verdict::Wrong);
            }
        });
    }
    while let Some(caller) = calls.join_next().await {
        caller.unwrap();
    }
    assert_eq!(passwords.load().refused, 0);
}

#[tokio::test]
async fn a_caller_that_stops_waiting_leaves_the_queue_without_a_verdict() {
    let passwords = without_workers(1);
    let place = passwords.reserve(None).unwrap();
    let gone = place.verify_unless(std::future::ready(()), password(GOOD), None);
    assert_eq!(gone.await.unwrap(), None);
    assert_eq!(passwords.load().waiting, 0);
}

#[tokio::test]
async fn a_caller_that_waits_gets_its_verdict() {
    let passwords = passwords(SETTINGS, 1);
    let place = passwords.reserve(None).unwrap();
    let waits = place.verify_unless(std::future::pending(), password(GOOD), None);
    assert_eq!(waits.await.unwrap(), Some(Verdict::Wrong));
}

#[test]
fn the_workers_end_with_the_last_clone() {
    let passwords = passwords(SETTINGS, 1);
    let queue = Arc::downgrade(&passwords.0.queue);
    let clone = passwords.clone();
    drop(passwords);
    assert!(queue.upgrade().is_some());
    drop(clone);
    // Each worker holds the queue until it ends; if one did not end, this test would hang.
    while queue.strong_count() > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_start_without_workers_or_peppers_fails() {
    let key = Secret::new([1; 32]);
    let idle = PasswordSettings {
        workers: 0,
        ..SETTINGS
    };
    let error = Passwords::start(idle, vec![Pepper { version: 1, key }])
        .err()
        .unwrap();
    assert!(matches!(
        error,
        PasswordError::Internal(HashingError::NoWorkers)
    ));
    assert!(Passwords::start(SETTINGS, vec![]).is_err());
}

/// A failed login does the same work for every account, whatever its hash was stored with.
#[tokio::test]
async fn a_failed_login_costs_the_same_for_old_current_and_unknown_accounts() {
    const OLD: Argon2Cost = Argon2Cost {
        memory_kib: 64,
        iterations: 1,
        parallelism: 1,
    };
    const NEW: Argon2Cost = Argon2Cost {
        memory_kib: 200,
        iterations: 3,
        parallelism: 1,
    };
    for (before, now) in [(OLD, NEW), (NEW, OLD)] {
        let with = |cost| passwords(PasswordSettings { cost, ..SETTINGS }, 1);
        let (earlier, passwords) = (with(before), with(now));
        passwords.set_stored_parameters([earlier.current_parameters()]);
        let old = hash(&earlier, GOOD).await.unwrap();
        let current = hash(&passwords, GOOD).await.unwrap();
        let wrong = "not the password of anyone";
        let most = NEW.work_kib();
        for (account, password_text) in [
            (Account::Unknown, wrong),
            (Account::Known(old.clone()), wrong),
            (Account::Known(current.clone()), wrong),
            (Account::Disabled(old.clone()), GOOD),
            (Account::Disabled(current.clone()), GOOD),
            (Account::Disabled(old.clone()), wrong),
        ] {
            let before = passwords.load().work_kib;
            let place = passwords.reserve(None).unwrap();
            let verdict = place.verify(password(password_text), account).await;
            assert_eq!(verdict.unwrap(), Verdict::Wrong);
            // Argon2's least amount of work is 8 KiB.
            let missing = most - (passwords.load().work_kib - before);
            assert!(missing < 12, "{missing} of {most} KiB are missing");
        }
        // The right password costs no more than its own hash, and a new one where that is old.
        let before = passwords.load().work_kib;
        let verdict = passwords.verify(password(GOOD), Some(current), None).await;
        assert_eq!(
            verdict.unwrap(),
            Verdict::Right {
                rehashed: None,
                is_breached: false
            }
        );
        assert_eq!(passwords.load().work_kib - before, now.work_kib());
    }
}

/// Whatever function the stored hash is of, a failed login does the work of Argon2 besides.
#[tokio::test]
async fn a_failed_login_does_the_work_of_argon2_for_an_imported_hash_too() {
    const BCRYPT: &str = "$2b$04$9NKIZ4axYpeEiq3o56T8hehibNiGT.b/n618oAW4HPZfQE9eojp9u";
    const IMPORTED: &str = "correct horse battery staple";
    let passwords = passwords(SETTINGS, 1);
    passwords.set_stored_parameters([passwords.current_parameters()]);
    let clear = PasswordHash::from_stored(BCRYPT.to_owned());
    let sealed = passwords
        .sealer()
        .unwrap()
        .seal(&formats::accept(BCRYPT).unwrap())
        .unwrap();
    for stored in [clear, sealed] {
        for (account, text) in [
            (Account::Known(stored.clone()), "not the password of anyone"),
            (Account::Disabled(stored.clone()), IMPORTED),
            (Account::Unknown, IMPORTED),
        ] {
            let before = passwords.load().work_kib;
            let place = passwords.reserve(None).unwrap();
            let verdict = place.verify(password(text), account).await;
            assert_eq!(verdict.unwrap(), Verdict::Wrong);
            let work = passwords.load().work_kib - before;
            assert_eq!(work, SETTINGS.cost.work_kib());
        }
        assert_eq!(
            passwords.unlisted_parameters(),
            ["$imported$k=bcrypt,w=16"],
            "the next unknown address costs as much"
        );
        let verdict = passwords.verify(password(IMPORTED), Some(stored), None);
        let Ok(Verdict::Right {
            rehashed: Some(new),
            ..
        }) = verdict.await
        else {
            panic!("the imported hash did not verify or was not renewed");
        };
        let verdict = passwords.verify(password(IMPORTED), Some(new), None).await;
        assert_eq!(
            verdict.unwrap(),
            Verdict::Right {
                rehashed: None,
                is_breached: false
            }
        );
    }
}

/// Reserves a place and uses it at once.
impl Passwords {
    async fn hash_new(
        &self,
        field: &'static str,
        password: Password,
        personal: Vec<String>,
        deadline: Option<Instant>,
    ) -> Result<PasswordHash, PasswordError> {
        let place = self.reserve(deadline)?;
        place.hash_new(field, password, personal).await
    }

    async fn verify(
        &self,
        password: Password,
        stored: Option<PasswordHash>,
        deadline: Option<Instant>,
    ) -> Result<Verdict, PasswordError> {
        self.reserve(deadline)?.verify(password, stored).await
    }
}

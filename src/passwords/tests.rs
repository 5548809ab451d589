//! The service as its callers see it, at a cost that makes the tests quick.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

use super::*;
use crate::domain::ViolationReason;

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
async fn the_right_password_is_right_and_no_other() {
    let passwords = passwords(SETTINGS, 1);
    let stored = hash(&passwords, GOOD).await.unwrap();
    let verify = |text| passwords.verify(password(text), Some(stored.clone()), None);
    assert_eq!(
        verify(GOOD).await.unwrap(),
        Verdict::Right { rehashed: None }
    );
    assert_eq!(
        verify("Correct horse battery staple").await.unwrap(),
        Verdict::Wrong
    );
}

#[tokio::test]
async fn an_unknown_user_costs_a_whole_job_and_is_always_wrong() {
    let passwords = passwords(SETTINGS, 1);
    let verdict = passwords.verify(password(GOOD), None, None).await.unwrap();
    assert_eq!(verdict, Verdict::Wrong);
    let load = passwords.load();
    assert_eq!((load.finished, load.running), (1, 0));
    assert!(load.average > Duration::ZERO);
}

#[tokio::test]
async fn a_hash_of_another_cost_is_replaced_by_one_that_lasts() {
    let old = hash(&passwords(SETTINGS, 1), GOOD).await.unwrap();
    let cost = Argon2Cost {
        iterations: 2,
        ..SETTINGS.cost
    };
    let dearer = passwords(PasswordSettings { cost, ..SETTINGS }, 1);
    let verdict = dearer
        .verify(password(GOOD), Some(old.clone()), None)
        .await
        .unwrap();
    let Verdict::Right {
        rehashed: Some(new),
    } = verdict
    else {
        panic!("not replaced");
    };
    let verdict = dearer
        .verify(password(GOOD), Some(new), None)
        .await
        .unwrap();
    assert_eq!(verdict, Verdict::Right { rehashed: None });
    let wrong = dearer
        .verify(password("wrong"), Some(old), None)
        .await
        .unwrap();
    assert_eq!(wrong, Verdict::Wrong);
}

#[tokio::test]
async fn a_hash_that_cannot_be_judged_is_not_a_wrong_password() {
    let stored = hash(&passwords(SETTINGS, 1), GOOD).await.unwrap();
    let elsewhere = passwords(SETTINGS, 2);
    let error = elsewhere
        .verify(password(GOOD), Some(stored), None)
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        PasswordError::Internal(HashingFault::UnknownPepper { .. })
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
async fn a_deadline_in_the_past_costs_nothing() {
    let passwords = passwords(SETTINGS, 1);
    let past = Some(monotonic_now());
    let error = passwords
        .verify(password(GOOD), None, past)
        .await
        .unwrap_err();
    assert!(matches!(error, PasswordError::Overloaded { .. }));
    assert_eq!(passwords.load().finished, 0);
}

/// The futures are polled by hand and the workers never started, so nothing here depends on time.
#[test]
fn a_full_queue_refuses_and_a_dropped_future_makes_room() {
    let recipe = Recipe::new(
        SETTINGS.cost,
        vec![Pepper {
            version: 1,
            key: Secret::new([1; 32]),
        }],
    )
    .unwrap();
    let decoy = recipe.decoy().unwrap();
    let passwords = Passwords(Arc::new(Shared {
        rules: Arc::new(Rules {
            recipe,
            policy: Policy { min_length: 15 },
            decoy,
        }),
        queue: Arc::new(Queue::new(Workers::new(1, 1, monotonic_now()), 1)),
    }));
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

/// As many callers as there are places, each of whom asks again as soon as it has its answer: a job
/// that kept its place a moment longer, or held two for a moment, would have one of them refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_has_an_answer_has_given_up_the_place() {
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

#[test]
fn the_workers_end_with_the_last_clone() {
    let passwords = passwords(SETTINGS, 1);
    let queue = Arc::downgrade(&passwords.0.queue);
    let clone = passwords.clone();
    drop(passwords);
    assert!(queue.upgrade().is_some());
    drop(clone);
    // Each worker holds the queue until it ends; a worker that never did would hang this test.
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
        PasswordError::Internal(HashingFault::NoWorkers)
    ));
    assert!(Passwords::start(SETTINGS, vec![]).is_err());
}

/// In one breath, as the tests want it.
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

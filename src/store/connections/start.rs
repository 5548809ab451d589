//! Waits at startup for a database that is not available yet: bounded, with growing pauses, and logged.

use std::{
    fmt::Display,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time;

use crate::{clock::monotonic_now, store::StoreError};

/// How long a start waits before it says for what.
const QUIET: Duration = Duration::from_secs(1);
/// How often it says so again.
const REPEATED: Duration = Duration::from_secs(10);
/// How long a server may take connections and not answer: one that restarts refuses them meanwhile.
const LONGEST_SILENCE: Duration = Duration::from_secs(12);

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Tries until it succeeds, fails for a reason that does not pass, or the time is up.
pub(in crate::store) async fn retried<T>(
    what: &str,
    patience: Duration,
    attempt: impl AsyncFn() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let last = Mutex::new("no answer yet".to_owned());
    let work = async {
        let began = monotonic_now();
        let mut silent_since = None;
        let mut pause = FIRST_PAUSE;
        loop {
            let attempt_began = monotonic_now();
            let error = match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            silent_since = match error {
                StoreError::Silent(_) => silent_since.or(Some(attempt_began)),
                _ => None,
            };
            let silence = silent_since.map_or(Duration::ZERO, |since| monotonic_now() - since);
            let is_over = monotonic_now() - began + pause > patience || silence >= LONGEST_SILENCE;
            if !error.is_passing() || is_over {
                return Err(error);
            }
            *last.lock().unwrap_or_else(PoisonError::into_inner) = error.to_string();
            time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    };
    let error = || last.lock().unwrap_or_else(PoisonError::into_inner).clone();
    reported(what, work, error).await
}

/// Does `work`; when it takes longer than a second, says what is waited for, again and again.
pub(in crate::store) async fn reported<T, E: Display>(
    what: &str,
    work: impl Future<Output = T>,
    state: impl Fn() -> E,
) -> T {
    let mut work = std::pin::pin!(work);
    let mut pause = QUIET;
    let mut waited = Duration::ZERO;
    loop {
        match time::timeout(pause, &mut work).await {
            Ok(done) => return done,
            Err(_) => {
                waited += pause;
                let state = state();
                tracing::warn!(waited_s = waited.as_secs(), %state, "waiting for {what}");
                pause = REPEATED;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn what_passes_is_tried_again_and_what_does_not_is_told_at_once() {
        let tries = AtomicUsize::new(0);
        let third = async || match tries.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => Err(StoreError::Unavailable("refused".to_owned())),
            _ => Ok(()),
        };
        retried("the database", Duration::from_secs(60), third)
            .await
            .unwrap();
        let tries = AtomicUsize::new(0);
        let wrong = async || {
            tries.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>(StoreError::Refused("password".to_owned()))
        };
        assert!(
            retried("the database", Duration::from_secs(60), wrong)
                .await
                .is_err()
        );
        assert_eq!(tries.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn without_patience_there_is_one_attempt() {
        let tries = AtomicUsize::new(0);
        let gone = async || {
            tries.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>(StoreError::Unavailable("refused".to_owned()))
        };
        assert!(retried("the database", Duration::ZERO, gone).await.is_err());
        assert_eq!(tries.load(Ordering::Relaxed), 1);
    }
}

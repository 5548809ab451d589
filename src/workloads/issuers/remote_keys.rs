//! The keys of an issuer behind a URL: fetched in the background and for an unknown `kid`, kept while the issuer is away.

use std::{
    sync::{
        Arc, RwLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Mutex, Semaphore};

use super::{
    fetch::{FetchError, Fetcher},
    file::{IssuerIdentity, IssuerSettings, KeyUrl},
    jwks::{JwksError, KeyRules, KeySet},
};
use crate::clock::{Clock, Timestamp};

/// How old the keys become before they are fetched again: for so long a removed key is still accepted.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Shortest time between two fetches, whatever assertions name.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(10);
/// Longest time between two fetches while they fail.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(2 * 60);
/// Calls that may wait for one fetch; further ones are judged by the keys that are known.
const MAX_WAITING: usize = 64;

/// The keys of one issuer.
pub(super) struct RemoteKeys {
    settings: IssuerSettings,
    authorities: Option<Vec<u8>>,
    fetcher: Fetcher,
    clock: Clock,
    current: RwLock<Arc<KeySet>>,
    /// Held while a fetch is under way, so that calls that need one wait for it together.
    schedule: Mutex<Schedule>,
    waiting: Arc<Semaphore>,
    /// When the keys were fetched last, in microseconds; 0: never.
    fetched_at: AtomicI64,
    failures: AtomicU64,
}

#[derive(Debug, Default)]
struct Schedule {
    /// On the monotonic clock.
    last_attempt: Option<Duration>,
    failed_attempts: u32,
}

/// Why keys are to be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// Time has passed.
    Age,
    /// An assertion names a key that is not known.
    UnknownKey,
}

#[derive(Debug, thiserror::Error)]
enum RefreshError {
    #[error("{0}")]
    Fetch(#[from] FetchError),
    #[error("the document {0}")]
    Document(#[from] JwksError),
}

impl RemoteKeys {
    /// Keys that have not been fetched yet.
    ///
    /// # Errors
    /// `authorities` cannot be used.
    pub(super) fn new(
        settings: IssuerSettings,
        from: KeyUrl,
        authorities: Option<Vec<u8>>,
        clock: Clock,
    ) -> Result<Self, String> {
        Ok(Self {
            fetcher: Fetcher::new(from, authorities.as_deref())?,
            settings,
            authorities,
            clock,
            current: RwLock::default(),
            schedule: Mutex::default(),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            fetched_at: AtomicI64::new(0),
            failures: AtomicU64::new(0),
        })
    }

    /// Whether these are the keys of an issuer with the same settings; then a new file goes on with them.
    pub(super) fn have_settings(
        &self,
        settings: &IssuerSettings,
        authorities: Option<&[u8]>,
    ) -> bool {
        self.settings == *settings && self.authorities.as_deref() == authorities
    }

    /// The keys, fetched again when none of them is wanted and a fetch is due. Only then it waits, at most for the time of a
    /// fetch.
    pub(super) async fn with(self: &Arc<Self>, is_wanted: impl Fn(&KeySet) -> bool) -> Arc<KeySet> {
        let current = self.current();
        if is_wanted(&current) {
            return current;
        }
        let Ok(place) = Arc::clone(&self.waiting).try_acquire_owned() else {
            return current;
        };
        // In a task of its own: a caller that goes away must not end a fetch for which others wait.
        let this = Arc::clone(self);
        let fetch = tokio::spawn(async move {
            let _place = place;
            this.fetch_if_due(Reason::UnknownKey).await;
        });
        let _ = fetch.await;
        self.current()
    }

    /// Fetches the keys when they are old.
    pub(super) async fn refresh(&self) {
        self.fetch_if_due(Reason::Age).await;
    }

    /// When the keys were fetched last.
    pub(super) fn fetched_at(&self) -> Option<Timestamp> {
        let micros = self.fetched_at.load(Ordering::Relaxed);
        (micros > 0).then(|| Timestamp::from_micros(micros))
    }

    /// How many fetches failed.
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn current(&self) -> Arc<KeySet> {
        let current = self.current.read();
        // A poisoned lock still holds a whole set: it is replaced in one assignment.
        Arc::clone(&current.unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    async fn fetch_if_due(&self, reason: Reason) {
        let mut schedule = self.schedule.lock().await;
        let now = self.clock.monotonic();
        if !schedule.is_due(reason, now) {
            return;
        }
        schedule.last_attempt = Some(now);
        match self.fetch().await {
            Ok(keys) => {
                schedule.failed_attempts = 0;
                let at = self.clock.now().micros();
                self.fetched_at.store(at, Ordering::Relaxed);
                let mut current = self
                    .current
                    .write()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                *current = Arc::new(keys);
            }
            Err(error) => {
                schedule.failed_attempts = schedule.failed_attempts.saturating_add(1);
                self.failures.fetch_add(1, Ordering::Relaxed);
                let keys = self.current().len();
                tracing::warn!(issuer = self.settings.name, %error, keys, "the keys of a trusted issuer cannot be fetched; the known keys stay in use");
            }
        }
    }

    async fn fetch(&self) -> Result<KeySet, RefreshError> {
        let json = self.fetcher.fetch().await?;
        Ok(KeySet::read(&json, rules(&self.settings))?)
    }
}

/// How the keys of this issuer are read.
pub(super) fn rules(settings: &IssuerSettings) -> KeyRules<'_> {
    KeyRules {
        algorithms: &settings.algorithms,
        is_spiffe: matches!(settings.identity, IssuerIdentity::SpiffeTrustDomain(_)),
    }
}

impl Schedule {
    fn is_due(&self, reason: Reason, now: Duration) -> bool {
        let Some(last) = self.last_attempt else {
            return true;
        };
        let interval = match (reason, self.failed_attempts) {
            (Reason::Age, 0) => REFRESH_INTERVAL,
            (Reason::UnknownKey, 0) => SHORTEST_INTERVAL,
            (_, failed) => SHORTEST_INTERVAL
                .saturating_mul(1 << (failed - 1).min(8))
                .min(LONGEST_BACK_OFF),
        };
        now.saturating_sub(last) >= interval
    }
}

#[cfg(test)]
#[path = "remote_keys_tests.rs"]
mod tests;

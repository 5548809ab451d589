//! The trusted issuers as the rest of the service sees them.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use tokio::sync::watch;

use super::{
    assertion::Assertion,
    loaded::{BoundSubject, Keys, Loaded},
    refused::{AssertionRefused, RefusalCause, Refusals},
    single_use::UsedAssertions,
};
use crate::clock::Timestamp;

/// The issuers in use, and what happened with them. Cheap to clone.
#[derive(Clone)]
pub struct TrustedIssuers {
    pub(super) loaded: watch::Receiver<Arc<Loaded>>,
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    used: UsedAssertions,
    refusals: Refusals,
    /// When the file was taken, and when it could not be used, last; in microseconds, 0: never.
    pub(super) last_good: AtomicI64,
    pub(super) last_failed: AtomicI64,
}

/// The keys of one issuer behind a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerStatus {
    /// The issuer's name in the file.
    pub name: String,
    /// When its keys were fetched last.
    pub fetched_at: Option<Timestamp>,
    /// How many fetches failed.
    pub failed_fetches: u64,
}

impl TrustedIssuers {
    /// None: every assertion is refused.
    pub fn none() -> Self {
        let (_, loaded) = watch::channel(Arc::new(Loaded::none()));
        Self {
            loaded,
            shared: Arc::default(),
        }
    }

    /// The service account that an assertion stands for at `now`. Each refusal is counted and its cause logged here.
    ///
    /// It waits only when the issuer's keys must be fetched first, at most 5 s.
    ///
    /// # Errors
    /// The assertion is not accepted. The sender is told one constant sentence, whatever the cause.
    pub async fn authenticate(
        &self,
        assertion: &str,
        now: Timestamp,
    ) -> Result<BoundSubject, AssertionRefused> {
        let loaded = Arc::clone(&self.loaded.borrow());
        let mut issuer = None;
        let judged = self.judge(&loaded, assertion, now, &mut issuer).await;
        judged.map_err(|cause| {
            self.shared.refusals.note(cause, issuer);
            cause.into()
        })
    }

    async fn judge<'a>(
        &self,
        loaded: &'a Loaded,
        text: &str,
        now: Timestamp,
        found: &mut Option<&'a str>,
    ) -> Result<BoundSubject, RefusalCause> {
        if loaded.issuers.is_empty() {
            return Err(RefusalCause::NoIssuers);
        }
        let assertion = Assertion::parse(text)?;
        let issuer = loaded.issuer_of(&assertion.claims)?;
        *found = Some(&issuer.settings.name);
        issuer.judge(&assertion, &self.shared.used, now).await
    }

    /// How often each cause of a refusal occurred.
    pub fn refusals(&self) -> Vec<(&'static str, u64)> {
        self.shared.refusals.read()
    }

    /// The issuers whose keys are fetched.
    pub fn fetched(&self) -> Vec<IssuerStatus> {
        let loaded = Arc::clone(&self.loaded.borrow());
        let remote = loaded
            .issuers
            .iter()
            .filter_map(|issuer| match &issuer.keys {
                Keys::Remote(keys) => Some(IssuerStatus {
                    name: issuer.settings.name.clone(),
                    fetched_at: keys.fetched_at(),
                    failed_fetches: keys.failures(),
                }),
                Keys::File(_) => None,
            });
        remote.collect()
    }

    /// When the file was taken last.
    pub fn last_good_reload(&self) -> Option<Timestamp> {
        moment(&self.shared.last_good)
    }

    /// When a changed file could not be used last.
    pub fn last_failed_reload(&self) -> Option<Timestamp> {
        moment(&self.shared.last_failed)
    }
}

impl std::fmt::Debug for TrustedIssuers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TrustedIssuers")
    }
}

fn moment(micros: &AtomicI64) -> Option<Timestamp> {
    let micros = micros.load(Ordering::Relaxed);
    (micros > 0).then(|| Timestamp::from_micros(micros))
}

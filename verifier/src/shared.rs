//! What the tasks of a verifier and its callers share.

use std::sync::atomic::AtomicBool;

use tokio::sync::{Notify, watch};

use crate::{
    clock::Clock,
    local::LocalVerifier,
    state::{FeedStatus, Progress, VerifierState},
};

pub(crate) struct Shared {
    pub(crate) local: LocalVerifier,
    pub(crate) clock: Clock,
    pub(crate) progress: Progress,
    pub(crate) state: watch::Sender<VerifierState>,
    /// A token named a key that is not known.
    pub(crate) keys_wanted: Notify,
    /// Keys have been asked for lately, and are not asked for now.
    pub(crate) keys_rest: AtomicBool,
    /// How many times keys have been fetched, or tried to.
    pub(crate) keys_fetched: watch::Sender<u64>,
}

impl Shared {
    pub(crate) fn new(local: LocalVerifier, clock: Clock) -> Self {
        Self {
            local,
            progress: Progress::new(clock.clone()),
            clock,
            state: watch::Sender::default(),
            keys_wanted: Notify::new(),
            keys_rest: AtomicBool::new(false),
            keys_fetched: watch::Sender::default(),
        }
    }

    /// Publishes the status, and logs it when it is another.
    pub(crate) fn set_status(&self, status: FeedStatus) {
        if status != FeedStatus::Current {
            self.progress.interrupted();
        }
        self.state.send_if_modified(|state| {
            if state.status == status {
                return false;
            }
            match &status {
                FeedStatus::Connecting => {}
                FeedStatus::Current => tracing::info!("the feed of revocations is current"),
                FeedStatus::Interrupted { cause } => {
                    tracing::warn!(cause, "the feed of revocations is interrupted");
                }
                FeedStatus::CredentialRefused { cause } => {
                    tracing::error!(cause, "the verifier's credential is refused");
                }
            }
            state.status = status;
            true
        });
    }

    pub(crate) fn count_malformed(&self, count: usize) {
        if count > 0 {
            tracing::warn!(count, "malformed parts of the feed were ignored");
            self.state
                .send_modify(|state| state.malformed += count as u64);
        }
    }
}

//! The files that are reloaded while the server runs: certificates, and the trusted issuers.

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::StartError;
use crate::{
    clock::Clock,
    config::Config,
    tls::{TlsReloader, TlsState},
    workloads::issuers::{IssuersReloader, TrustedIssuers},
};

/// What was read from the files at the start, and who follows them.
pub(super) struct FollowedFiles {
    tls: Option<(TlsState, TlsReloader)>,
    issuers: (TrustedIssuers, Option<IssuersReloader>),
}

impl FollowedFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// One cannot be used.
    pub(super) fn read(config: &Config, clock: &Clock) -> Result<Self, StartError> {
        let tls = config.tls_files.clone();
        let tls = tls.map(|files| TlsReloader::start(files, clock.clone()));
        let issuers = config.trusted_issuers_file.clone();
        let issuers = issuers.map(|path| IssuersReloader::start(path, clock.clone()));
        Ok(Self {
            tls: tls.transpose()?,
            issuers: match issuers.transpose()? {
                Some((issuers, reloader)) => (issuers, Some(reloader)),
                None => (TrustedIssuers::none(), None),
            },
        })
    }

    /// Whose assertions are accepted.
    pub(super) fn issuers(&self) -> TrustedIssuers {
        self.issuers.0.clone()
    }

    /// Follows the files until `stopping`, and returns the certificates in use.
    pub(super) fn follow(
        self,
        tasks: &TaskTracker,
        stopping: &CancellationToken,
    ) -> Option<TlsState> {
        if let Some(reloader) = self.issuers.1 {
            tasks.spawn(reloader.run(stopping.clone()));
        }
        let (state, reloader) = self.tls?;
        tasks.spawn(reloader.run(stopping.clone()));
        Some(state)
    }
}

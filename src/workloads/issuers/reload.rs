//! Follows the file of trusted issuers, and the files that it names, while the server runs.
//!
//! Contents are compared every two seconds; following names instead would miss how Kubernetes swaps symbolic links. Files
//! that cannot be used change nothing.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    loaded::{Contents, IssuersError, Keys, Loaded},
    trusted::{Shared, TrustedIssuers},
};
use crate::clock::Clock;

/// How often the files are looked at, and whether keys have to be fetched.
const INTERVAL: Duration = Duration::from_secs(2);

/// Looks at the files, and has old keys fetched.
pub struct IssuersReloader {
    path: PathBuf,
    /// What was read last, usable or not.
    seen: Option<Contents>,
    /// Why the files could not be read last.
    unreadable: Option<String>,
    publish: watch::Sender<Arc<Loaded>>,
    shared: Arc<Shared>,
    clock: Clock,
    fetches: JoinSet<()>,
}

impl IssuersReloader {
    /// Reads the files at the start. Keys behind a URL are fetched by [`run`](Self::run), and by the first assertion: an
    /// issuer that is away does not keep the service from starting.
    ///
    /// # Errors
    /// The files cannot be used.
    pub fn start(path: PathBuf, clock: Clock) -> Result<(TrustedIssuers, Self), IssuersError> {
        let contents = Contents::read(&path)?;
        let loaded = Loaded::new(&contents, &Loaded::none(), &clock)?;
        let (publish, loaded) = watch::channel(Arc::new(loaded));
        let shared = Arc::<Shared>::default();
        shared
            .last_good
            .store(clock.now().micros(), Ordering::Relaxed);
        let issuers = TrustedIssuers {
            loaded,
            shared: Arc::clone(&shared),
        };
        let reloader = Self {
            path,
            seen: Some(contents),
            unreadable: None,
            publish,
            shared,
            clock,
            fetches: JoinSet::new(),
        };
        Ok((issuers, reloader))
    }

    /// Checks the files as a start would, and says how many issuers and bindings there are.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn check(path: &Path) -> Result<(usize, usize), IssuersError> {
        let contents = Contents::read(path)?;
        Loaded::new(&contents, &Loaded::none(), &Clock::System)?;
        Ok(contents.counts())
    }

    /// Follows the files and refreshes keys until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            self.refresh_keys();
            if stop.run_until_cancelled(sleep(INTERVAL)).await.is_none() {
                return;
            }
            self.reload_if_changed().await;
        }
    }

    /// Reads the files, and takes them if they have changed.
    pub(super) async fn reload_if_changed(&mut self) {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || Contents::read(&path)).await;
        match read {
            Ok(Ok(contents)) => {
                self.unreadable = None;
                if self.seen.as_ref() != Some(&contents) {
                    self.take(&contents);
                    self.seen = Some(contents);
                }
            }
            Ok(Err(error)) => {
                self.seen = None;
                // The same problem is reported once.
                let text = Some(error.to_string());
                if self.unreadable != text {
                    self.failed(&error);
                    self.unreadable = text;
                }
            }
            // The read panicked, or the runtime is shutting down.
            Err(_) => {}
        }
    }

    fn take(&self, contents: &Contents) {
        let before = Arc::clone(&self.publish.borrow());
        match Loaded::new(contents, &before, &self.clock) {
            Ok(loaded) => {
                self.publish.send_replace(Arc::new(loaded));
                let now = self.clock.now().micros();
                self.shared.last_good.store(now, Ordering::Relaxed);
                let (issuers, bindings) = contents.counts();
                tracing::info!(
                    issuers,
                    bindings,
                    "the file of trusted issuers was read again"
                );
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&self, error: &IssuersError) {
        let now = self.clock.now().micros();
        self.shared.last_failed.store(now, Ordering::Relaxed);
        tracing::error!(%error, "the changed file of trusted issuers cannot be used; the previous issuers stay in use");
    }

    /// Has the keys of every issuer fetched that are old. A slow issuer delays neither the others nor the files.
    fn refresh_keys(&mut self) {
        while self.fetches.try_join_next().is_some() {}
        if !self.fetches.is_empty() {
            return;
        }
        let loaded = Arc::clone(&self.publish.borrow());
        for issuer in &loaded.issuers {
            if let Keys::Remote(keys) = &issuer.keys {
                let keys = Arc::clone(keys);
                self.fetches.spawn(async move { keys.refresh().await });
            }
        }
    }
}

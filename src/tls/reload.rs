//! Takes new certificates without a restart.
//!
//! The contents of the files are compared every two seconds; following names instead would miss how Kubernetes swaps
//! symbolic links. A pair that cannot be used changes nothing: it may be half written.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    TlsError,
    refusals::Refusals,
    server::{Contents, Loaded},
};
use crate::{
    clock::{Clock, Timestamp},
    config::TlsFiles,
};

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(2);

/// The certificates in use, and what happened to them and with them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TlsState {
    pub(super) loaded: watch::Receiver<Arc<Loaded>>,
    pub(super) refusals: Refusals,
    reloads: Arc<Reloads>,
}

#[derive(Debug)]
struct Reloads {
    last_good: AtomicI64,
    /// 0: none yet.
    last_failed: AtomicI64,
}

impl TlsState {
    /// When the server's certificate expires.
    pub fn not_after(&self) -> Timestamp {
        self.loaded.borrow().not_after
    }

    /// When the first authority for client certificates expires, if there are any.
    pub fn authorities_not_after(&self) -> Option<Timestamp> {
        self.loaded.borrow().authorities_not_after
    }

    /// When certificates were taken last.
    pub fn last_good_reload(&self) -> Timestamp {
        Timestamp::from_micros(self.reloads.last_good.load(Ordering::Relaxed))
    }

    /// When changed files could not be used last.
    pub fn last_failed_reload(&self) -> Option<Timestamp> {
        let micros = self.reloads.last_failed.load(Ordering::Relaxed);
        (micros > 0).then(|| Timestamp::from_micros(micros))
    }

    /// The refused handshakes.
    pub fn refusals(&self) -> Refusals {
        self.refusals.clone()
    }
}

/// Looks at the files, for as long as the server runs.
#[derive(Debug)]
pub struct TlsReloader {
    files: TlsFiles,
    /// What was read last, usable or not.
    seen: Option<Contents>,
    /// What is in use.
    used: Contents,
    publish: watch::Sender<Arc<Loaded>>,
    reloads: Arc<Reloads>,
    clock: Clock,
}

impl TlsReloader {
    /// Reads the files at the start.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn start(files: TlsFiles, clock: Clock) -> Result<(TlsState, Self), TlsError> {
        let contents = Contents::read(&files)?;
        let now = clock.now();
        let (loaded, warnings) = Loaded::new(&files, &contents, CancellationToken::new(), now)?;
        report(&warnings);
        let (publish, loaded) = watch::channel(Arc::new(loaded));
        let reloads = Arc::new(Reloads {
            last_good: AtomicI64::new(now.micros()),
            last_failed: AtomicI64::new(0),
        });
        let state = TlsState {
            loaded,
            refusals: Refusals::default(),
            reloads: Arc::clone(&reloads),
        };
        let reloader = Self {
            files,
            seen: Some(contents.clone()),
            used: contents,
            publish,
            reloads,
            clock,
        };
        Ok((state, reloader))
    }

    /// Checks the files as a start would, and says until when the certificate is valid.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn check(
        files: &TlsFiles,
        now: Timestamp,
    ) -> Result<(Timestamp, Vec<&'static str>), TlsError> {
        let contents = Contents::read(files)?;
        let (loaded, warnings) = Loaded::new(files, &contents, CancellationToken::new(), now)?;
        Ok((loaded.not_after, warnings))
    }

    /// Follows the files until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        while stop.run_until_cancelled(sleep(INTERVAL)).await.is_some() {
            let files = self.files.clone();
            let read = tokio::task::spawn_blocking(move || Contents::read(&files)).await;
            match read {
                Ok(Ok(contents)) if self.seen.as_ref() == Some(&contents) => {}
                Ok(Ok(contents)) => {
                    self.seen = Some(contents.clone());
                    self.take(contents);
                }
                // Reported once, until a file can be read again.
                Ok(Err(error)) if self.seen.take().is_some() => self.failed(&error),
                _ => {}
            }
        }
    }

    fn take(&mut self, contents: Contents) {
        if contents == self.used {
            return;
        }
        let keeps_authorities = contents.has_authorities_of(&self.used);
        let before = self.publish.borrow().authorities_replaced.clone();
        let token = match keeps_authorities {
            true => before.clone(),
            false => CancellationToken::new(),
        };
        let now = self.clock.now();
        match Loaded::new(&self.files, &contents, token, now) {
            Ok((loaded, warnings)) => {
                self.publish.send_replace(Arc::new(loaded));
                self.used = contents;
                self.reloads
                    .last_good
                    .store(now.micros(), Ordering::Relaxed);
                tracing::info!("TLS: new certificates are in use");
                report(&warnings);
                if !keeps_authorities {
                    before.cancel();
                }
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&self, error: &TlsError) {
        let now = self.clock.now();
        self.reloads
            .last_failed
            .store(now.micros(), Ordering::Relaxed);
        tracing::error!(%error, "TLS: the changed files cannot be used; the previous certificates stay in use");
    }
}

fn report(warnings: &[&str]) {
    for warning in warnings {
        tracing::warn!("TLS: {warning}");
    }
}

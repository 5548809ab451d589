//! Keeps this replica up to date: reads keys and revocations at each notification, at every poll interval, and after an
//! outage of the database.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex, Notify},
    time,
};
use tokio_util::sync::CancellationToken;

use super::{
    RevocationIndex,
    checkpoints::{Checkpoints, Read},
    listener,
};
use crate::{
    clock::{Clock, Timestamp},
    store::{RevocationCursor, Store, StoreError},
    tokens::{DerivedKeys, Keyring},
};

/// However many notifications come, there is at most one read in this time.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
/// How soon a read that failed is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// SQLite does not notify of what another process, a command say, wrote to its file; a read costs little.
const SQLITE_INTERVAL: Duration = Duration::from_secs(1);
/// Where notifications do not arrive, as behind some poolers, a revocation is known after this time.
const INTERVAL_WITHOUT_NOTIFICATIONS: Duration = Duration::from_secs(1);
/// Dropping expired revocations visits every entry, so it is not done at each read.
const FORGET_INTERVAL: Duration = Duration::from_secs(5);
/// NTP may set the time of day back by less than this.
const STEP_BACK: Duration = Duration::from_secs(1);

/// What a [`RevocationSync`] works with.
pub struct SyncParts {
    /// Where to read.
    pub store: Store,
    /// What to keep up to date.
    pub index: Arc<RevocationIndex>,
    /// The signing keys, which change in the same way.
    pub keyring: Arc<Keyring>,
    /// What opens signing keys.
    pub derived_keys: Arc<DerivedKeys>,
    /// The time.
    pub clock: Clock,
    /// How often to read without a notification.
    pub poll_interval: Duration,
}

/// Reads from the database what other replicas have changed.
pub struct RevocationSync {
    parts: SyncParts,
    progress: Mutex<Progress>,
    /// So that an outage is logged when it begins and when it ends, and not at every attempt.
    keys_fail: AtomicBool,
    revocations_fail: AtomicBool,
}

#[derive(Default)]
struct Progress {
    checkpoints: Checkpoints,
    /// Time of day and monotonic clock at the last read.
    clocks: Option<(Timestamp, Duration)>,
}

impl RevocationSync {
    /// A reader that has not read anything yet.
    pub fn new(parts: SyncParts) -> Self {
        Self {
            parts,
            progress: Mutex::default(),
            keys_fail: AtomicBool::new(false),
            revocations_fail: AtomicBool::new(false),
        }
    }

    /// Reads what is new, or, the first time, everything that is live.
    ///
    /// # Errors
    /// The database fails; the index keeps what it has and says by its `as_of` how old that is.
    pub async fn catch_up(&self) -> Result<(), StoreError> {
        let mut progress = self.progress.lock().await;
        self.check_for_clock_set_back(&mut progress);
        let has_floor = progress.checkpoints.floor().is_some();
        let found_any = self.read_new(&mut progress.checkpoints).await?;
        if has_floor && !found_any {
            // The newest row is never deleted, so it is missing only from a restored table.
            tracing::warn!(
                "revocations are gone from the table: was a backup restored? Reading anew"
            );
            progress.checkpoints = Checkpoints::default();
            self.read_new(&mut progress.checkpoints).await?;
        }
        Ok(())
    }

    /// Revocations that were dropped as expired while the clock was ahead may be live again.
    fn check_for_clock_set_back(&self, progress: &mut Progress) {
        let clock = &self.parts.clock;
        let (now, monotonic) = (clock.now(), clock.monotonic());
        if let Some((then, monotonic_then)) = progress.clocks {
            let expected = then + monotonic.saturating_sub(monotonic_then);
            if now + STEP_BACK < expected {
                tracing::warn!("the clock was set back: reading all revocations anew");
                progress.checkpoints = Checkpoints::default();
            }
        }
        progress.clocks = Some((now, monotonic));
    }

    /// Reads from the floor to the end, page by page. Whether there was any row.
    async fn read_new(&self, checkpoints: &mut Checkpoints) -> Result<bool, StoreError> {
        let SyncParts {
            store,
            index,
            clock,
            ..
        } = &self.parts;
        let began = clock.monotonic();
        let now = clock.now();
        let start = checkpoints.start(began);
        // Expired rows are left out when all are read. Later they count, as the newest may be one.
        let live_after = start.map_or(now, |_| Timestamp::from_micros(i64::MIN));
        if start.is_none() && index.is_empty() {
            // Without the counts the index only takes more memory.
            if let Ok(counts) = store.count_revocations(now).await {
                index.reserve(counts);
            }
        }
        let (mut greatest, mut is_long) = (None, false);
        let mut next = Some(RevocationCursor::at(start.unwrap_or(i64::MIN)));
        while let Some(cursor) = next {
            let page = store.revocations_from(&cursor, live_after).await?;
            let known = checkpoints.greatest();
            for position in &page.unreadable {
                if known.is_none_or(|known| *position > known) {
                    tracing::error!(position, "a revocation cannot be read, and is left out");
                }
            }
            let mut live = page.revocations;
            live.retain(|positioned| positioned.revocation.expires_at > now);
            index.learn(&live);
            greatest = page.greatest.or(greatest);
            is_long |= page.next.is_some();
            next = page.next;
        }
        checkpoints.record(Read {
            began,
            ended: clock.monotonic(),
            now,
            greatest,
            is_long,
        });
        index.caught_up(began, checkpoints.floor().unwrap_or(i64::MIN));
        Ok(greatest.is_some())
    }

    /// Reads until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let wake = Arc::new(Notify::new());
        let listening = listener::listen(self.parts.store.clone(), Arc::clone(&wake));
        tokio::select! {
            () = stop.cancelled() => {}
            () = listening => {}
            () = self.read_repeatedly(&wake) => {}
        }
    }

    async fn read_repeatedly(&self, wake: &Notify) {
        let clock = &self.parts.clock;
        let mut forgot_at = clock.monotonic();
        loop {
            let succeeded = self.read_all().await;
            if clock.monotonic().saturating_sub(forgot_at) >= FORGET_INTERVAL {
                forgot_at = clock.monotonic();
                self.parts.index.forget_expired(clock.now());
            }
            time::sleep(SHORTEST_INTERVAL).await;
            let rest = self.interval(succeeded).saturating_sub(SHORTEST_INTERVAL);
            // Notified or timed out, it is time to read again.
            let _ = time::timeout(rest, wake.notified()).await;
        }
    }

    fn interval(&self, succeeded: bool) -> Duration {
        let mut interval = self.parts.poll_interval;
        if !succeeded {
            interval = interval.min(RETRY_INTERVAL);
        }
        if !self.parts.store.receives_notifications() {
            interval = interval.min(INTERVAL_WITHOUT_NOTIFICATIONS);
        }
        if self.parts.store.is_local() {
            interval = interval.min(SQLITE_INTERVAL);
        }
        interval
    }

    /// Reads keys and revocations once, and returns whether both could be read. If one fails, the other is read all the
    /// same.
    async fn read_all(&self) -> bool {
        let parts = &self.parts;
        let keys = parts
            .keyring
            .keep_up(&parts.store, &parts.derived_keys, parts.clock.now())
            .await;
        if let Ok(true) = keys {
            parts.index.announce_keys_changed();
        }
        let revocations = self.catch_up().await;
        report(&self.keys_fail, "signing keys", keys.as_ref().err());
        report(
            &self.revocations_fail,
            "revocations",
            revocations.as_ref().err(),
        );
        keys.is_ok() && revocations.is_ok()
    }
}

/// Logs the first failure in a row, and the end of it.
fn report<E: std::fmt::Display>(fails: &AtomicBool, what: &str, error: Option<&E>) {
    let failed_before = fails.swap(error.is_some(), Ordering::Relaxed);
    match error {
        Some(error) if !failed_before => {
            tracing::warn!(%error, what, "could not be read; serving what is known");
        }
        None if failed_before => tracing::info!(what, "can be read again"),
        _ => {}
    }
}

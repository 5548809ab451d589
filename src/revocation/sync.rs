//! Keeps this replica up to date: reads signing keys, revocations and service accounts at each notification, at every poll interval, and after an
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
    Cursor, RevocationIndex,
    checkpoints::{Checkpoints, Read},
    listener,
};
use crate::{
    clock::{Clock, Timestamp},
    store::{FeedState, RevocationCursor, Store, StoreError},
    tokens::{DerivedKeys, Keyring},
    workloads::Directory,
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
/// How often a read is restarted because the epoch changed meanwhile.
const EPOCHS_IN_ONE_READ: usize = 3;
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
    /// The service accounts and their keys, which change in the same way as well.
    pub directory: Arc<Directory>,
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
    directory_fails: AtomicBool,
}

#[derive(Default)]
struct Progress {
    checkpoints: Checkpoints,
    /// Time of day and monotonic clock at the last read.
    clocks: Option<(Timestamp, Duration)>,
}

/// What came of reading the table to its end.
struct CompleteRead {
    /// When it began, on the monotonic clock.
    began: Duration,
    /// Whether there was any row.
    found_any: bool,
}

impl RevocationSync {
    /// A reader that has not read anything yet.
    pub fn new(parts: SyncParts) -> Self {
        Self {
            parts,
            progress: Mutex::default(),
            keys_fail: AtomicBool::new(false),
            revocations_fail: AtomicBool::new(false),
            directory_fails: AtomicBool::new(false),
        }
    }

    /// Reads what is new, or, the first time, everything that is live.
    ///
    /// The epoch is read before and after: what was read in between belongs to one history.
    ///
    /// # Errors
    /// The database fails; the index keeps what it has and says by its `as_of` how old that is.
    pub async fn catch_up(&self) -> Result<(), StoreError> {
        let SyncParts { store, index, .. } = &self.parts;
        let mut progress = self.progress.lock().await;
        self.check_for_clock_set_back(&mut progress);
        let mut state = store.feed_state().await?;
        for _ in 0..EPOCHS_IN_ONE_READ {
            let known = index.cursor();
            if self.is_other_history(&state, known).await {
                progress.checkpoints = Checkpoints::default();
                self.parts.directory.read_everything_next().await;
                state = store.feed_state().await?;
            }
            let has_floor = progress.checkpoints.floor().is_some();
            let read = self.read_new(&mut progress.checkpoints).await?;
            // The newest row is never deleted, so it is missing only from a restored table.
            let is_lost = has_floor && !read.found_any;
            if is_lost {
                self.begin_epoch_after(&state).await;
                progress.checkpoints = Checkpoints::default();
                self.parts.directory.read_everything_next().await;
            }
            let after = store.feed_state().await?;
            if !is_lost && after.epoch == state.epoch {
                let epoch = state.epoch.or(known.epoch());
                let greatest = progress.checkpoints.greatest().unwrap_or_default();
                let position = greatest.max(state.position);
                index.caught_up(read.began, Cursor::new(epoch, position));
                return Ok(());
            }
            state = after;
        }
        Err(StoreError::Busy(
            "the epoch changed during every read".to_owned(),
        ))
    }

    /// Whether all has to be read again: the database is not the one that was read before, or has lost what was in it.
    async fn is_other_history(&self, state: &FeedState, known: Cursor) -> bool {
        // A standby does not say; it goes on with what its primary had.
        if known.epoch().is_none() || state.epoch.is_none() {
            return false;
        }
        if state.epoch != known.epoch() {
            tracing::warn!(
                "the database is another one, or a standby was promoted: reading all revocations again"
            );
            return true;
        }
        let is_lost = state.position < known.position();
        if is_lost {
            self.begin_epoch_after(state).await;
        }
        is_lost
    }

    async fn begin_epoch_after(&self, lost: &FeedState) {
        tracing::warn!(
            "revocations are missing from the table: was a backup restored? Reading all again"
        );
        if let Err(error) = self.parts.store.begin_epoch_after(lost).await {
            tracing::warn!(%error, "the epoch of the revocation stream could not be changed");
        }
    }

    /// Revocations that were dropped as expired while the clock was ahead may be live again.
    fn check_for_clock_set_back(&self, progress: &mut Progress) {
        let clock = &self.parts.clock;
        let (now, monotonic) = (clock.now(), clock.monotonic());
        if let Some((then, monotonic_then)) = progress.clocks {
            let expected = then + monotonic.saturating_sub(monotonic_then);
            if now + STEP_BACK < expected {
                tracing::warn!("the clock was set back: reading all revocations again");
                progress.checkpoints = Checkpoints::default();
            }
        }
        progress.clocks = Some((now, monotonic));
    }

    /// Reads from the floor to the end, page by page.
    async fn read_new(&self, checkpoints: &mut Checkpoints) -> Result<CompleteRead, StoreError> {
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
                    tracing::error!(position, "a revocation cannot be read and is skipped");
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
        Ok(CompleteRead {
            began,
            found_any: greatest.is_some(),
        })
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
            // Notified, asked or timed out, it is time to read again.
            tokio::select! {
                () = wake.notified() => {}
                () = self.parts.index.read_wanted() => {}
                () = time::sleep(rest) => {}
            }
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

    /// Reads signing keys, revocations and service accounts once, and returns whether all could be read. If one fails, the
    /// others are read all the same.
    async fn read_all(&self) -> bool {
        let parts = &self.parts;
        let keys = parts
            .keyring
            .read_and_rotate(&parts.store, &parts.derived_keys, parts.clock.now())
            .await;
        if let Ok(true) = keys {
            parts.index.announce_keys_changed();
        }
        let revocations = self.catch_up().await;
        let directory = parts.directory.refresh(&parts.store, &parts.clock).await;
        report(&self.keys_fail, "signing keys", keys.as_ref().err());
        report(
            &self.revocations_fail,
            "revocations",
            revocations.as_ref().err(),
        );
        report(
            &self.directory_fails,
            "service accounts",
            directory.as_ref().err(),
        );
        keys.is_ok() && revocations.is_ok() && directory.is_ok()
    }
}

/// Logs the first failure in a row, and the end of it.
fn report<E: std::fmt::Display>(fails: &AtomicBool, what: &str, error: Option<&E>) {
    let failed_before = fails.swap(error.is_some(), Ordering::Relaxed);
    match error {
        Some(error) if !failed_before => {
            tracing::warn!(%error, what, "could not be read; continuing with the last known state");
        }
        None if failed_before => tracing::info!(what, "can be read again"),
        _ => {}
    }
}

//! The feed of revocations and keys: events are made once and shared by all watchers.
//!
//! A [`FeedHub`] publishes the new revocations of the index. A watcher subscribes under the lock that the hub
//! publishes under: it gets a snapshot, what was published since that snapshot was taken, and a receiver of all that
//! follows, so that nothing is lost in between. Watchers that subscribe within a few seconds share a snapshot: a
//! thousand that reconnect after a restart cost one copy of the index.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{
        Mutex, Semaphore, SemaphorePermit,
        broadcast::{
            self,
            error::{RecvError, TryRecvError},
        },
    },
    time::MissedTickBehavior,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Change, Cursor, RevocationIndex,
    checkpoints::{CLOCK_SKEW, OVERLAP},
};
use crate::{
    clock::{Clock, Timestamp, monotonic_now},
    domain::PositionedRevocation,
    tokens::{JwksDocument, Keyring},
};

/// How many revocations an event has at most.
pub(super) const BATCH: usize = 256;

/// How many events a watcher may be behind before it is disconnected.
const BACKLOG: usize = 1024;

/// For how long new watchers share one snapshot. With the time in which a watcher must have read
/// it, this bounds how many snapshots there are at once.
const SNAPSHOT_SHARED_FOR: Duration = Duration::from_secs(5);

/// When so many events have been published since it was taken, a new snapshot is cheaper.
const MOST_SINCE_SNAPSHOT: usize = 64;

/// How many watchers read their snapshots at once. When a thousand reconnect together, the first
/// are done soon; all at once, none of them would be done in time.
const SNAPSHOTS_AT_ONCE: usize = 16;

/// How often it is recorded up to when everything has been published.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// The least time between two events. However fast revocations come, watchers are woken
/// no more often than this; the first change after a pause is published at once.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(50);

/// How far before its cursor a watcher resumes, for versions that do not write in the order of positions: they commit
/// within [`OVERLAP`], and their clocks agree within [`CLOCK_SKEW`].
const RESENT: Duration = OVERLAP.saturating_add(CLOCK_SKEW);

/// Some revocations, shared by all watchers.
pub type Batch = Arc<[PositionedRevocation]>;

/// One event of the feed. Cheap to clone.
#[derive(Clone)]
pub enum FeedEvent {
    /// Revocations: a part of the snapshot, or new ones.
    Revocations(Batch),
    /// The keys, which replace those sent before.
    Keys(Arc<JwksDocument>),
    /// The snapshot has been sent.
    SnapshotComplete,
    /// Sent at least every second.
    Heartbeat(Heartbeat),
}

/// Up to where everything has been published.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heartbeat {
    /// Every revocation committed before this moment has been published.
    pub as_of: Timestamp,
    /// How fresh a watcher is that has had all of it, and where it resumes.
    pub cursor: Cursor,
}

impl Heartbeat {
    fn of(index: &RevocationIndex, clock: &Clock) -> Self {
        Self {
            as_of: index.as_of(clock.now(), clock.monotonic()),
            cursor: index.cursor(),
        }
    }
}

/// What watchers subscribe to. Cheap to clone.
#[derive(Clone)]
pub struct Feed {
    inner: Arc<Inner>,
}

struct Inner {
    index: Arc<RevocationIndex>,
    keyring: Arc<Keyring>,
    clock: Clock,
    events: broadcast::Sender<FeedEvent>,
    shared: Mutex<Option<Shared>>,
    snapshot_permits: Semaphore,
    /// What is covered by all that has been published.
    published: RwLock<Heartbeat>,
    closing: CancellationToken,
    watchers_started: AtomicU64,
}

/// What watchers share that subscribe at about the same time.
struct Shared {
    taken: Instant,
    snapshot: Arc<Snapshot>,
    /// The revocations published since the snapshot was taken.
    since: Vec<FeedEvent>,
}

/// Every live revocation, by position, in batches.
pub(super) struct Snapshot(Vec<Batch>);

/// What a watcher starts with.
pub(super) struct Subscription {
    pub(super) keys: Arc<JwksDocument>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) since: Vec<FeedEvent>,
    /// What all of this covers.
    pub(super) published: Heartbeat,
    pub(super) changes: broadcast::Receiver<FeedEvent>,
}

/// The one task that publishes; when it ends, every watcher's stream does.
pub struct FeedHub {
    feed: Feed,
    changes: broadcast::Receiver<Change>,
    /// The entity tag of the keys published last.
    published_keys: String,
    _closing: DropGuard,
}

impl Feed {
    /// The feed of what this index and this keyring know, and the hub, which the caller has to run.
    pub fn new(
        index: Arc<RevocationIndex>,
        keyring: Arc<Keyring>,
        clock: Clock,
    ) -> (Self, FeedHub) {
        let closing = CancellationToken::new();
        let changes = index.subscribe();
        let published = Heartbeat::of(&index, &clock);
        let published_keys = keyring.jwks(clock.now()).etag;
        let feed = Self {
            inner: Arc::new(Inner {
                index,
                keyring,
                clock,
                events: broadcast::Sender::new(BACKLOG),
                shared: Mutex::new(None),
                snapshot_permits: Semaphore::new(SNAPSHOTS_AT_ONCE),
                published: RwLock::new(published),
                closing: closing.clone(),
                watchers_started: AtomicU64::new(0),
            }),
        };
        let hub = FeedHub {
            feed: feed.clone(),
            changes,
            published_keys,
            _closing: closing.drop_guard(),
        };
        (feed, hub)
    }

    /// The number of watchers.
    pub fn watchers(&self) -> usize {
        self.inner.events.receiver_count()
    }

    /// Waits until another watcher may read a snapshot.
    pub(super) async fn snapshot_permit(&self) -> Option<SemaphorePermit<'_>> {
        // Never closed.
        self.inner.snapshot_permits.acquire().await.ok()
    }

    /// A receiver of all that follows, and everything published before. `None` when the process ends.
    pub(super) async fn subscribe(&self) -> Option<Subscription> {
        let inner = &self.inner;
        let mut shared = inner.shared.lock().await;
        let current = match &mut *shared {
            Some(current) if !current.is_stale() => current,
            stale => stale.insert(self.take_snapshot().await?),
        };
        Some(Subscription {
            keys: Arc::new(inner.keyring.jwks(inner.clock.now())),
            snapshot: Arc::clone(&current.snapshot),
            since: current.since.clone(),
            published: self.published(),
            changes: inner.events.subscribe(),
        })
    }

    /// What is covered by all that has been published.
    pub(super) fn published(&self) -> Heartbeat {
        *self
            .inner
            .published
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The position from which a watcher with `cursor` has to be sent everything: the beginning when the cursor is of
    /// another epoch, or lies ahead of this database.
    pub(super) fn start_of(&self, cursor: Cursor) -> i64 {
        let published = self.published().cursor;
        let newest = self.inner.clock.now().micros().max(published.position());
        let continues = cursor.epoch().is_some() && cursor.epoch() == published.epoch();
        if continues && cursor.position() <= newest {
            // Positions are microseconds, but for those moved beyond another.
            (Timestamp::from_micros(cursor.position()) - RESENT).micros()
        } else {
            i64::MIN
        }
    }

    /// Completes when the stream of every watcher has to end.
    pub(super) fn closing(&self) -> &CancellationToken {
        &self.inner.closing
    }

    /// A number for each watcher.
    pub(super) fn next_number(&self) -> u64 {
        self.inner.watchers_started.fetch_add(1, Ordering::Relaxed)
    }

    async fn take_snapshot(&self) -> Option<Shared> {
        let taken = monotonic_now();
        let revocations = self.live_since(i64::MIN).await?;
        Some(Shared {
            taken,
            snapshot: Arc::new(Snapshot::new(&revocations)),
            since: Vec::new(),
        })
    }

    /// The live revocations from `since` on, by position. On a thread for blocking work, because copying and
    /// sorting many takes milliseconds.
    async fn live_since(&self, since: i64) -> Option<Vec<PositionedRevocation>> {
        let index = Arc::clone(&self.inner.index);
        let copy = tokio::task::spawn_blocking(move || {
            let mut revocations = index.live_since(since);
            revocations.sort_unstable_by_key(position);
            revocations
        });
        copy.await.ok()
    }

    async fn publish(&self, event: FeedEvent) {
        let mut shared = self.inner.shared.lock().await;
        // Keys are not kept: a new watcher reads the newest ones, and an older set must not follow them.
        if let (FeedEvent::Revocations(_), Some(current)) = (&event, &mut *shared) {
            current.since.push(event.clone());
        }
        // It fails when there are no watchers.
        let _ = self.inner.events.send(event);
    }

    async fn publish_revocations(&self, revocations: &[PositionedRevocation]) {
        for batch in revocations.chunks(BATCH) {
            self.publish(FeedEvent::Revocations(batch.into())).await;
        }
    }
}

impl Shared {
    fn is_stale(&self) -> bool {
        self.since.len() > MOST_SINCE_SNAPSHOT
            || monotonic_now().saturating_duration_since(self.taken) > SNAPSHOT_SHARED_FOR
    }
}

impl Snapshot {
    /// From revocations in the order of their positions.
    fn new(revocations: &[PositionedRevocation]) -> Self {
        Self(revocations.chunks(BATCH).map(Into::into).collect())
    }

    /// The part number `index` of the revocations at `start` and beyond; `None` behind the last.
    pub(super) fn part(&self, start: i64, index: usize) -> Option<Batch> {
        let known = |revocation: &PositionedRevocation| position(revocation) < start;
        let skipped = self
            .0
            .partition_point(|batch| batch.last().is_some_and(known));
        let batch = self.0.get(skipped + index)?;
        match batch.partition_point(known) {
            0 => Some(Arc::clone(batch)),
            first => Some(batch[first..].into()),
        }
    }
}

/// The position of a revocation in a snapshot. One whose position is not known yet comes last, so that it is sent to every
/// watcher.
const fn position(revocation: &PositionedRevocation) -> i64 {
    match revocation.position {
        0 => i64::MAX,
        position => position,
    }
}

impl FeedHub {
    /// Publishes until `stop` is cancelled; then every watcher's stream ends.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut progress = tokio::time::interval(PROGRESS_INTERVAL);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                change = self.changes.recv() => {
                    match change {
                        Ok(change) => self.publish_changes(Some(change)).await,
                        Err(RecvError::Lagged(_)) => self.publish_again().await,
                        Err(RecvError::Closed) => return,
                    }
                    tokio::time::sleep(PUBLISH_INTERVAL).await;
                }
                _ = progress.tick() => self.record_progress().await,
            }
        }
    }

    /// Publishes all that is new, then records up to where that was all.
    async fn record_progress(&mut self) {
        let inner = Arc::clone(&self.feed.inner);
        // Read before the changes are: what is published may be newer than the heartbeat, never older.
        let heartbeat = Heartbeat::of(&inner.index, &inner.clock);
        self.publish_changes(None).await;
        // A key also leaves the set as time passes.
        self.publish_keys().await;
        *inner
            .published
            .write()
            .unwrap_or_else(PoisonError::into_inner) = heartbeat;
        inner
            .shared
            .lock()
            .await
            .take_if(|current| current.is_stale());
    }

    /// Publishes `first` and all that waits behind it.
    async fn publish_changes(&mut self, first: Option<Change>) {
        let mut revocations = Vec::new();
        let mut next = first.map(Ok);
        loop {
            match next.take().unwrap_or_else(|| self.changes.try_recv()) {
                Ok(Change::Revoked(revocation)) => revocations.push(revocation),
                Ok(Change::KeysChanged) => self.publish_keys().await,
                Err(TryRecvError::Lagged(_)) => return self.publish_again().await,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        self.feed.publish_revocations(&revocations).await;
    }

    /// Publishes all that may be new, when more changed at once than the channel holds.
    async fn publish_again(&mut self) {
        // What waits in the channel is in the index already.
        self.changes = self.changes.resubscribe();
        let since = self.feed.start_of(self.feed.published().cursor);
        if let Some(revocations) = self.feed.live_since(since).await {
            self.feed.publish_revocations(&revocations).await;
        }
        self.publish_keys().await;
    }

    /// Publishes the keys, if they differ from those published last.
    async fn publish_keys(&mut self) {
        let inner = &self.feed.inner;
        let keys = inner.keyring.jwks(inner.clock.now());
        if keys.etag != self.published_keys {
            self.published_keys.clone_from(&keys.etag);
            self.feed.publish(FeedEvent::Keys(Arc::new(keys))).await;
        }
    }
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;

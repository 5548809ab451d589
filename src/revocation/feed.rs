//! The feed: what watchers are told, made once and shared by all of them.
//!
//! A [`FeedHub`] reads what the index learns and tells it to everyone who listens. Who comes in joins
//! under the lock that the hub tells under: it gets a snapshot, what was told since that snapshot was
//! taken, and a place in the line for all that follows, so that nothing falls between them. A snapshot
//! serves all who come within a few seconds: a thousand watchers that return together after a restart
//! cost one copy of the index and not a thousand.

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

use super::{Change, Cursor, RevocationIndex};
use crate::{
    clock::{Clock, Timestamp, monotonic_now},
    domain::PositionedRevocation,
    tokens::{JwksDocument, Keyring},
};

/// How many revocations are told at once.
pub(super) const BATCH: usize = 256;

/// How many events a watcher may be behind before it is cut off.
const BACKLOG: usize = 1024;

/// For how long one snapshot serves those who come in. With the time in which a watcher must have taken
/// it, this bounds how many there are at once.
const SNAPSHOT_SHARED_FOR: Duration = Duration::from_secs(5);

/// When so much has been told since it was taken, a new snapshot is cheaper.
const MOST_SINCE_SNAPSHOT: usize = 64;

/// How many watchers are given their snapshots at once. When a thousand come back together, the first
/// are done soon; all at once, none of them would be done in time.
const SNAPSHOTS_AT_ONCE: usize = 16;

/// How often it is noted up to when everything has been told.
const NOTE_INTERVAL: Duration = Duration::from_millis(200);

/// The least time between two rounds of telling. However fast the world changes, watchers are woken
/// no more often than this; the first change after a pause is told at once.
const ROUND: Duration = Duration::from_millis(50);

/// Some revocations, shared by all watchers.
pub type Batch = Arc<[PositionedRevocation]>;

/// One thing that watchers are told. Cheap to clone.
#[derive(Clone)]
pub enum FeedEvent {
    /// Revocations: a part of the snapshot, or new ones.
    Revocations(Batch),
    /// The keys, which replace those told before.
    Keys(Arc<JwksDocument>),
    /// The snapshot has been told.
    SnapshotComplete,
    /// A sign of life.
    Heartbeat(Heartbeat),
}

/// Up to where everything has been told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heartbeat {
    /// Every revocation committed before this moment has been told.
    pub as_of: Timestamp,
    /// Where to go on.
    pub cursor: Cursor,
}

impl Heartbeat {
    fn of(index: &RevocationIndex, clock: &Clock) -> Self {
        Self {
            as_of: index.as_of(clock.now(), clock.monotonic()),
            cursor: Cursor::at(index.cursor()),
        }
    }
}

/// What watchers listen to. Cheap to clone.
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
    turns: Semaphore,
    /// What is covered by all that has been told.
    told: RwLock<Heartbeat>,
    closing: CancellationToken,
    newcomers: AtomicU64,
}

/// What those who come in at about the same time share.
struct Shared {
    taken: Instant,
    snapshot: Arc<Snapshot>,
    /// The revocations told since the snapshot was taken.
    since: Vec<FeedEvent>,
}

/// Every live revocation, by position, in batches.
pub(super) struct Snapshot(Vec<Batch>);

/// What a watcher starts with.
pub(super) struct Joined {
    pub(super) keys: Arc<JwksDocument>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) since: Vec<FeedEvent>,
    /// What all of this covers.
    pub(super) told: Heartbeat,
    pub(super) events: broadcast::Receiver<FeedEvent>,
}

/// The one task that tells the feed; when it ends, every watcher's stream does.
pub struct FeedHub {
    feed: Feed,
    changes: broadcast::Receiver<Change>,
    /// The entity tag of the keys told last.
    keys_told: String,
    _closing: DropGuard,
}

impl Feed {
    /// The feed of what this index and this keyring know, and the hub, which somebody has to run.
    pub fn new(
        index: Arc<RevocationIndex>,
        keyring: Arc<Keyring>,
        clock: Clock,
    ) -> (Self, FeedHub) {
        let closing = CancellationToken::new();
        let changes = index.subscribe();
        let told = Heartbeat::of(&index, &clock);
        let keys_told = keyring.jwks(clock.now()).etag;
        let feed = Self {
            inner: Arc::new(Inner {
                index,
                keyring,
                clock,
                events: broadcast::Sender::new(BACKLOG),
                shared: Mutex::new(None),
                turns: Semaphore::new(SNAPSHOTS_AT_ONCE),
                told: RwLock::new(told),
                closing: closing.clone(),
                newcomers: AtomicU64::new(0),
            }),
        };
        let hub = FeedHub {
            feed: feed.clone(),
            changes,
            keys_told,
            _closing: closing.drop_guard(),
        };
        (feed, hub)
    }

    /// How many watch.
    pub fn watchers(&self) -> usize {
        self.inner.events.receiver_count()
    }

    /// Waits until it is this watcher's turn to be given a snapshot.
    pub(super) async fn snapshot_turn(&self) -> Option<SemaphorePermit<'_>> {
        // Never closed.
        self.inner.turns.acquire().await.ok()
    }

    /// Takes a place in the line, and everything told before it. `None` when the process ends.
    pub(super) async fn join(&self) -> Option<Joined> {
        let inner = &self.inner;
        let mut shared = inner.shared.lock().await;
        let current = match &mut *shared {
            Some(current) if !current.is_stale() => current,
            stale => stale.insert(self.take_snapshot().await?),
        };
        Some(Joined {
            keys: Arc::new(inner.keyring.jwks(inner.clock.now())),
            snapshot: Arc::clone(&current.snapshot),
            since: current.since.clone(),
            told: self.told(),
            events: inner.events.subscribe(),
        })
    }

    /// What is covered by all that has been told.
    pub(super) fn told(&self) -> Heartbeat {
        *self
            .inner
            .told
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a watcher that asks for `cursor` really has to begin: at the very start, when the cursor
    /// is of a future that this database has not seen, a restored one say.
    pub(super) fn begin(&self, cursor: Cursor) -> Cursor {
        let now = self.inner.clock.now();
        if cursor.position() > now.micros().max(self.told().cursor.position()) {
            Cursor::START
        } else {
            cursor
        }
    }

    /// Completes when the stream of every watcher has to end.
    pub(super) fn closing(&self) -> &CancellationToken {
        &self.inner.closing
    }

    /// A number for each watcher.
    pub(super) fn next_number(&self) -> u64 {
        self.inner.newcomers.fetch_add(1, Ordering::Relaxed)
    }

    async fn take_snapshot(&self) -> Option<Shared> {
        let taken = monotonic_now();
        let revocations = self.live_since(Cursor::START).await?;
        Some(Shared {
            taken,
            snapshot: Arc::new(Snapshot::new(&revocations)),
            since: Vec::new(),
        })
    }

    /// The live revocations from there on, by position. On a thread for blocking work: copying and
    /// sorting many takes milliseconds, in which a thread of the runtime would do nothing else.
    async fn live_since(&self, since: Cursor) -> Option<Vec<PositionedRevocation>> {
        let index = Arc::clone(&self.inner.index);
        let copy = tokio::task::spawn_blocking(move || {
            let mut revocations = index.live_since(since.floor());
            revocations.sort_unstable_by_key(place);
            revocations
        });
        copy.await.ok()
    }

    async fn tell(&self, event: FeedEvent) {
        let mut shared = self.inner.shared.lock().await;
        // Keys are not kept: who joins reads the newest ones, and an older set must not follow them.
        if let (FeedEvent::Revocations(_), Some(current)) = (&event, &mut *shared) {
            current.since.push(event.clone());
        }
        // It fails when nobody listens.
        let _ = self.inner.events.send(event);
    }

    async fn tell_revocations(&self, revocations: &[PositionedRevocation]) {
        for batch in revocations.chunks(BATCH) {
            self.tell(FeedEvent::Revocations(batch.into())).await;
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
    /// From revocations in the order of their places.
    fn new(revocations: &[PositionedRevocation]) -> Self {
        Self(revocations.chunks(BATCH).map(Into::into).collect())
    }

    /// The part number `index` of what a watcher at `cursor` may not know; `None` behind the last.
    pub(super) fn part(&self, cursor: Cursor, index: usize) -> Option<Batch> {
        let known = |revocation: &PositionedRevocation| place(revocation) < cursor.position();
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

/// The place of a revocation in a snapshot: last, when its position is not known yet, because then
/// everybody has to be told.
const fn place(revocation: &PositionedRevocation) -> i64 {
    match revocation.position {
        0 => i64::MAX,
        position => position,
    }
}

impl FeedHub {
    /// Tells what happens until told to stop; then every watcher's stream ends.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut notes = tokio::time::interval(NOTE_INTERVAL);
        notes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                change = self.changes.recv() => {
                    match change {
                        Ok(change) => self.tell_changes(Some(change)).await,
                        Err(RecvError::Lagged(_)) => self.tell_again().await,
                        Err(RecvError::Closed) => return,
                    }
                    tokio::time::sleep(ROUND).await;
                }
                _ = notes.tick() => self.note().await,
            }
        }
    }

    /// Tells all that has happened, then notes up to where that was all.
    async fn note(&mut self) {
        let inner = Arc::clone(&self.feed.inner);
        // Read before the changes are: what is told may be newer than the note, never older.
        let note = Heartbeat::of(&inner.index, &inner.clock);
        self.tell_changes(None).await;
        // A key also leaves the set by the mere passing of time.
        self.tell_keys().await;
        *inner.told.write().unwrap_or_else(PoisonError::into_inner) = note;
        inner
            .shared
            .lock()
            .await
            .take_if(|current| current.is_stale());
    }

    /// Tells `first` and all that waits behind it.
    async fn tell_changes(&mut self, first: Option<Change>) {
        let mut revocations = Vec::new();
        let mut next = first.map(Ok);
        loop {
            match next.take().unwrap_or_else(|| self.changes.try_recv()) {
                Ok(Change::Revoked(revocation)) => revocations.push(revocation),
                Ok(Change::KeysChanged) => self.tell_keys().await,
                Err(TryRecvError::Lagged(_)) => return self.tell_again().await,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        self.feed.tell_revocations(&revocations).await;
    }

    /// Tells all that may be new, when more happened at once than the channel holds.
    async fn tell_again(&mut self) {
        // What waits in the channel is in the index already.
        self.changes = self.changes.resubscribe();
        let since = self.feed.told().cursor;
        if let Some(revocations) = self.feed.live_since(since).await {
            self.feed.tell_revocations(&revocations).await;
        }
        self.tell_keys().await;
    }

    /// Tells the keys, if they differ from those told last.
    async fn tell_keys(&mut self) {
        let inner = &self.feed.inner;
        let keys = inner.keyring.jwks(inner.clock.now());
        if keys.etag != self.keys_told {
            self.keys_told.clone_from(&keys.etag);
            self.feed.tell(FeedEvent::Keys(Arc::new(keys))).await;
        }
    }
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;

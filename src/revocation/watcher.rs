//! Sends revocations and keys to one watcher, as long as it reads fast enough and its access token is valid.
//!
//! A task per watcher writes to a bounded queue that the gRPC stream reads. A watcher that does not read in time is
//! disconnected, so that its memory stays bounded by the queue.

use std::{convert::Infallible, time::Duration};

use tokio::{
    sync::{
        broadcast::{
            self,
            error::{RecvError, TryRecvError},
        },
        mpsc::{self, error::SendTimeoutError},
    },
    time::{MissedTickBehavior, interval_at, sleep, timeout},
};

use super::{Cursor, Feed, FeedEvent, feed::Subscription};
use crate::clock::monotonic_now;

/// How many events wait in the queue.
const QUEUE: usize = 4;

/// How long a watcher may take to read.
#[derive(Clone, Copy)]
pub(super) struct ReadTimeouts {
    /// For one event.
    pub(super) event: Duration,
    /// For the whole snapshot. It bounds for how long a snapshot is kept.
    pub(super) snapshot: Duration,
}

const READ_TIMEOUTS: ReadTimeouts = ReadTimeouts {
    event: Duration::from_secs(5),
    snapshot: Duration::from_secs(30),
};

/// A little less than the second that is promised.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(900);

/// How much later a watcher may get a change because of each other watcher. Sent to all at once, changes would delay
/// validation.
const DELAY_PER_WATCHER: Duration = Duration::from_micros(100);

/// The longest such delay.
const LONGEST_DELAY: Duration = Duration::from_millis(200);

/// Why a stream ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEnd<E> {
    /// The watcher does not read in time.
    TooSlow,
    /// The watcher may not watch any longer.
    NotAllowed(E),
}

/// The events that a watcher reads. It ends without a [`WatchEnd`] when the process does.
pub type WatchEvents<E> = mpsc::Receiver<Result<FeedEvent, WatchEnd<E>>>;

/// Why the task ends; `None`: the watcher has gone, or the process ends.
type End<E> = Option<WatchEnd<E>>;

impl Feed {
    /// Watches the feed from `cursor` on, for as long as `is_allowed` says so. It is called before each
    /// event, heartbeats included.
    pub fn watch<E, A>(&self, cursor: Cursor, is_allowed: A) -> WatchEvents<E>
    where
        E: Send + 'static,
        A: Fn() -> Result<(), E> + Send + Sync + 'static,
    {
        self.watch_with(cursor, READ_TIMEOUTS, is_allowed)
    }

    pub(super) fn watch_with<E, A>(
        &self,
        cursor: Cursor,
        timeouts: ReadTimeouts,
        is_allowed: A,
    ) -> WatchEvents<E>
    where
        E: Send + 'static,
        A: Fn() -> Result<(), E> + Send + Sync + 'static,
    {
        // One place is reserved for the reason of the end, which must not wait for a watcher that does not read.
        let (queue, events) = mpsc::channel(QUEUE + 1);
        let place_for_end = queue.clone().try_reserve_owned();
        let watcher = Watcher {
            feed: self.clone(),
            cursor,
            timeouts,
            number: self.next_number(),
            is_allowed,
            queue,
        };
        tokio::spawn(async move {
            let end = tokio::select! {
                biased;
                () = watcher.feed.closing().cancelled() => None,
                end = watcher.run() => end,
            };
            if let (Some(end), Ok(place)) = (end, place_for_end) {
                place.send(Err(end));
            }
        });
        events
    }
}

struct Watcher<E, A> {
    feed: Feed,
    cursor: Cursor,
    timeouts: ReadTimeouts,
    number: u64,
    is_allowed: A,
    queue: mpsc::Sender<Result<FeedEvent, WatchEnd<E>>>,
}

impl<E, A: Fn() -> Result<(), E>> Watcher<E, A> {
    async fn run(&self) -> End<E> {
        let permit = self.feed.snapshot_permit().await?;
        let subscription = self.feed.subscribe().await?;
        let snapshot = self.send_snapshot(subscription);
        let changes = match timeout(self.timeouts.snapshot, snapshot).await {
            Ok(Ok(changes)) => changes,
            Ok(Err(end)) => return end,
            Err(_) => return Some(WatchEnd::TooSlow),
        };
        drop(permit);
        match self.send_changes(changes).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    /// Sends the keys, the snapshot, and what was published since it was taken; then drops the snapshot.
    async fn send_snapshot(
        &self,
        subscription: Subscription,
    ) -> Result<broadcast::Receiver<FeedEvent>, End<E>> {
        self.send(FeedEvent::Keys(subscription.keys)).await?;
        let start = self.feed.start_of(self.cursor);
        let mut part = 0;
        while let Some(batch) = subscription.snapshot.part(start, part) {
            self.send(FeedEvent::Revocations(batch)).await?;
            part += 1;
        }
        for event in subscription.since {
            self.send(event).await?;
        }
        self.send(FeedEvent::SnapshotComplete).await?;
        self.send(FeedEvent::Heartbeat(subscription.published))
            .await?;
        Ok(subscription.changes)
    }

    async fn send_changes(
        &self,
        mut changes: broadcast::Receiver<FeedEvent>,
    ) -> Result<Infallible, End<E>> {
        let first = monotonic_now() + spread(HEARTBEAT_INTERVAL, self.number);
        let mut heartbeats = interval_at(first.into(), HEARTBEAT_INTERVAL);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = changes.recv() => {
                    let event = event.map_err(|error| match error {
                        RecvError::Lagged(_) => Some(WatchEnd::TooSlow),
                        RecvError::Closed => None,
                    })?;
                    sleep(self.delay()).await;
                    self.send(event).await?;
                }
                _ = heartbeats.tick() => {
                    // Read first: it covers only what was published before it, and that is sent first.
                    let published = self.feed.published();
                    self.drain(&mut changes).await?;
                    self.send(FeedEvent::Heartbeat(published)).await?;
                }
            }
        }
    }

    async fn drain(&self, changes: &mut broadcast::Receiver<FeedEvent>) -> Result<(), End<E>> {
        loop {
            match changes.try_recv() {
                Ok(event) => self.send(event).await?,
                Err(TryRecvError::Lagged(_)) => return Err(Some(WatchEnd::TooSlow)),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return Ok(()),
            }
        }
    }

    async fn send(&self, event: FeedEvent) -> Result<(), End<E>> {
        (self.is_allowed)().map_err(|error| Some(WatchEnd::NotAllowed(error)))?;
        let sent = self
            .queue
            .send_timeout(Ok(event), self.timeouts.event)
            .await;
        sent.map_err(|error| match error {
            SendTimeoutError::Timeout(_) => Some(WatchEnd::TooSlow),
            SendTimeoutError::Closed(_) => None,
        })
    }

    /// How long this watcher waits, so that not all of them are sent to in the same instant.
    fn delay(&self) -> Duration {
        let watchers = u32::try_from(self.feed.watchers()).unwrap_or(u32::MAX);
        let longest = DELAY_PER_WATCHER.saturating_mul(watchers);
        spread(longest.min(LONGEST_DELAY), self.number)
    }
}

/// A part of `whole` for each number, those of consecutive numbers far from each other: multiples of
/// the golden ratio fill the circle evenly.
fn spread(whole: Duration, number: u64) -> Duration {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let part = u32::try_from(number.wrapping_mul(GOLDEN) >> 32).unwrap_or_default();
    whole.mul_f64(f64::from(part) / 4_294_967_296.0)
}

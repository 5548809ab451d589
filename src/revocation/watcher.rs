//! One watcher: a task that passes the feed on for as long as its listener keeps up and is welcome.
//!
//! Between the task and the listener there is a queue of a few events. The task never waits long for
//! a place in it: a listener that does not take what it asked for is cut off, so that it costs nothing
//! but what is on its way to it.

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

use super::{Cursor, Feed, FeedEvent, feed::Joined};
use crate::clock::monotonic_now;

/// How many events wait for the listener.
const QUEUE: usize = 4;

/// How long a listener may take.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    /// For one event.
    pub(super) event: Duration,
    /// For the whole snapshot. It bounds for how long a snapshot is kept.
    pub(super) snapshot: Duration,
}

const PATIENCE: Patience = Patience {
    event: Duration::from_secs(5),
    snapshot: Duration::from_secs(30),
};

/// A little less than the second that is promised.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(900);

/// How much later a watcher may be told of a change because of the others. All of them at once
/// would take the processor from those who validate.
const TURN_PER_WATCHER: Duration = Duration::from_micros(100);

/// The most that all of them may be spread over.
const LONGEST_TURN: Duration = Duration::from_millis(200);

/// Why a watcher is told no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEnd<E> {
    /// It does not take what it is told.
    TooSlow,
    /// It is not welcome any more.
    Unwelcome(E),
}

/// What a watcher hears. It ends without a [`WatchEnd`] when the process does.
pub type Hearing<E> = mpsc::Receiver<Result<FeedEvent, WatchEnd<E>>>;

/// Why the task ends; `None`: nobody listens any more, or nobody tells any more.
type End<E> = Option<WatchEnd<E>>;

impl Feed {
    /// Watches the feed from `cursor` on, for as long as `welcome` says so. It is asked before each
    /// event, heartbeats included.
    pub fn watch<E, W>(&self, cursor: Cursor, welcome: W) -> Hearing<E>
    where
        E: Send + 'static,
        W: Fn() -> Result<(), E> + Send + Sync + 'static,
    {
        self.watch_with(cursor, PATIENCE, welcome)
    }

    pub(super) fn watch_with<E, W>(
        &self,
        cursor: Cursor,
        patience: Patience,
        welcome: W,
    ) -> Hearing<E>
    where
        E: Send + 'static,
        W: Fn() -> Result<(), E> + Send + Sync + 'static,
    {
        // One place is kept for the farewell: it must not wait for a listener who does not listen.
        let (queue, hearing) = mpsc::channel(QUEUE + 1);
        let farewell = queue.clone().try_reserve_owned();
        let watcher = Watcher {
            feed: self.clone(),
            cursor,
            patience,
            number: self.next_number(),
            welcome,
            queue,
        };
        tokio::spawn(async move {
            let end = tokio::select! {
                biased;
                () = watcher.feed.closing().cancelled() => None,
                end = watcher.pass_on() => end,
            };
            if let (Some(end), Ok(farewell)) = (end, farewell) {
                farewell.send(Err(end));
            }
        });
        hearing
    }
}

struct Watcher<E, W> {
    feed: Feed,
    cursor: Cursor,
    patience: Patience,
    number: u64,
    welcome: W,
    queue: mpsc::Sender<Result<FeedEvent, WatchEnd<E>>>,
}

impl<E, W: Fn() -> Result<(), E>> Watcher<E, W> {
    async fn pass_on(&self) -> End<E> {
        let turn = self.feed.snapshot_turn().await?;
        let joined = self.feed.join().await?;
        let events = match timeout(self.patience.snapshot, self.begin(joined)).await {
            Ok(Ok(events)) => events,
            Ok(Err(end)) => return end,
            Err(_) => return Some(WatchEnd::TooSlow),
        };
        drop(turn);
        match self.go_on(events).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    /// Tells the keys, the snapshot, and what others were told since it was taken; then lets go of it.
    async fn begin(&self, joined: Joined) -> Result<broadcast::Receiver<FeedEvent>, End<E>> {
        self.send(FeedEvent::Keys(joined.keys)).await?;
        let cursor = self.feed.begin(self.cursor);
        let mut part = 0;
        while let Some(batch) = joined.snapshot.part(cursor, part) {
            self.send(FeedEvent::Revocations(batch)).await?;
            part += 1;
        }
        for event in joined.since {
            self.send(event).await?;
        }
        self.send(FeedEvent::SnapshotComplete).await?;
        self.send(FeedEvent::Heartbeat(joined.told)).await?;
        Ok(joined.events)
    }

    async fn go_on(
        &self,
        mut events: broadcast::Receiver<FeedEvent>,
    ) -> Result<Infallible, End<E>> {
        let first = monotonic_now() + spread(HEARTBEAT_INTERVAL, self.number);
        let mut heartbeats = interval_at(first.into(), HEARTBEAT_INTERVAL);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = events.recv() => {
                    let event = event.map_err(|error| match error {
                        RecvError::Lagged(_) => Some(WatchEnd::TooSlow),
                        RecvError::Closed => None,
                    })?;
                    sleep(self.turn()).await;
                    self.send(event).await?;
                }
                _ = heartbeats.tick() => {
                    // Read first: it is true only behind all that was told before it.
                    let told = self.feed.told();
                    self.drain(&mut events).await?;
                    self.send(FeedEvent::Heartbeat(told)).await?;
                }
            }
        }
    }

    async fn drain(&self, events: &mut broadcast::Receiver<FeedEvent>) -> Result<(), End<E>> {
        loop {
            match events.try_recv() {
                Ok(event) => self.send(event).await?,
                Err(TryRecvError::Lagged(_)) => return Err(Some(WatchEnd::TooSlow)),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return Ok(()),
            }
        }
    }

    async fn send(&self, event: FeedEvent) -> Result<(), End<E>> {
        (self.welcome)().map_err(|error| Some(WatchEnd::Unwelcome(error)))?;
        let sent = self
            .queue
            .send_timeout(Ok(event), self.patience.event)
            .await;
        sent.map_err(|error| match error {
            SendTimeoutError::Timeout(_) => Some(WatchEnd::TooSlow),
            SendTimeoutError::Closed(_) => None,
        })
    }

    /// How long this watcher waits, so that not all of them are told in the same instant.
    fn turn(&self) -> Duration {
        let watchers = u32::try_from(self.feed.watchers()).unwrap_or(u32::MAX);
        let longest = TURN_PER_WATCHER.saturating_mul(watchers).min(LONGEST_TURN);
        spread(longest, self.number)
    }
}

/// A part of `whole` for each number, those of consecutive numbers far from each other: multiples of
/// the golden ratio fill the circle evenly.
fn spread(whole: Duration, number: u64) -> Duration {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let turn = u32::try_from(number.wrapping_mul(GOLDEN) >> 32).unwrap_or_default();
    whole.mul_f64(f64::from(turn) / 4_294_967_296.0)
}

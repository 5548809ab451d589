//! Tests of the feed without a network: what watchers share, and that slow ones are disconnected.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    clock::ManualClock,
    domain::{FeedEpoch, Revocation, RevokedSubject, SessionId},
    revocation::{WatchEnd, WatchEvents, watcher::ReadTimeouts},
};

const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
/// The distance of two positions: more than is sent again to a watcher that resumes.
const STEP: i64 = 100_000_000;
const WAIT: Duration = Duration::from_secs(20);

struct Fixture {
    index: Arc<RevocationIndex>,
    feed: Feed,
    stop: CancellationToken,
}

impl Fixture {
    /// A feed of `count` revocations, numbered from 1 on.
    fn with(count: u64) -> Self {
        let index = Arc::new(RevocationIndex::default());
        index.learn(&(1..=count).map(session).collect::<Vec<_>>());
        index.caught_up(Duration::ZERO, at(count));
        let clock = Clock::Manual(ManualClock::new(NOW));
        let keyring = Arc::new(Keyring::for_tests());
        let (feed, hub) = Feed::new(Arc::clone(&index), keyring, clock);
        let stop = CancellationToken::new();
        tokio::spawn(hub.run(stop.clone()));
        Self { index, feed, stop }
    }

    fn watch(&self, cursor: Cursor) -> WatchEvents<()> {
        self.feed.watch(cursor, || Ok(()))
    }
}

fn epoch(number: u8) -> Option<FeedEpoch> {
    FeedEpoch::from_bytes([number; 8])
}

/// The cursor of who knows the revocations up to this one.
fn at(number: u64) -> Cursor {
    Cursor::new(epoch(1), i64::try_from(number).unwrap() * STEP)
}

fn session(number: u64) -> PositionedRevocation {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    PositionedRevocation {
        position: at(number).position(),
        revocation: Revocation {
            subject: RevokedSubject::Session(SessionId::from_bytes(id)),
            not_before: Timestamp::default(),
            created_at: Timestamp::default(),
            expires_at: NOW + Duration::from_secs(600),
        },
    }
}

async fn next(events: &mut WatchEvents<()>) -> Option<Result<FeedEvent, WatchEnd<()>>> {
    tokio::time::timeout(WAIT, events.recv())
        .await
        .expect("an event comes in time")
}

/// The numbers sent before the snapshot is complete; the keys come first.
async fn snapshot(events: &mut WatchEvents<()>) -> Vec<i64> {
    assert!(matches!(next(events).await, Some(Ok(FeedEvent::Keys(_)))));
    let mut numbers = Vec::new();
    loop {
        match next(events).await.unwrap().unwrap() {
            FeedEvent::Revocations(batch) => {
                assert!((1..=BATCH).contains(&batch.len()));
                numbers.extend(batch.iter().map(|revocation| revocation.position / STEP));
            }
            FeedEvent::SnapshotComplete => return numbers,
            FeedEvent::Keys(_) | FeedEvent::Heartbeat(_) => {
                panic!("not before the snapshot is complete")
            }
        }
    }
}

#[tokio::test]
async fn a_snapshot_is_sent_in_parts_and_without_what_the_cursor_covers() {
    let fixture = Fixture::with(1_000);
    let all = snapshot(&mut fixture.watch(Cursor::START)).await;
    assert_eq!(all, (1..=1_000).collect::<Vec<_>>());
    for first in [1, 2, 256, 257, 999, 1_000] {
        let rest = snapshot(&mut fixture.watch(at(first))).await;
        let first = i64::try_from(first).unwrap();
        assert_eq!(rest, (first..=1_000).collect::<Vec<_>>());
    }
    assert!(snapshot(&mut fixture.watch(at(1_001))).await.is_empty());
}

#[tokio::test]
async fn a_revocation_without_a_position_is_sent_to_every_watcher() {
    let fixture = Fixture::with(10);
    let mut unknown = session(11);
    unknown.position = 0;
    fixture.index.learn(&[unknown]);
    assert_eq!(snapshot(&mut fixture.watch(at(10))).await, [10, 0]);
}

#[tokio::test]
async fn a_cursor_ahead_of_the_database_gets_the_whole_snapshot() {
    let fixture = Fixture::with(10);
    let beyond = Cursor::new(epoch(1), NOW.micros() + 1);
    assert_eq!(snapshot(&mut fixture.watch(beyond)).await.len(), 10);
}

#[tokio::test]
async fn a_cursor_of_another_epoch_or_of_none_gets_the_whole_snapshot() {
    let fixture = Fixture::with(10);
    for other in [epoch(2), None] {
        let cursor = Cursor::new(other, at(10).position());
        assert_eq!(snapshot(&mut fixture.watch(cursor)).await.len(), 10);
    }
}

#[tokio::test]
async fn watchers_share_one_snapshot_and_get_all_later_changes() {
    let fixture = Fixture::with(1_000);
    let first = fixture.feed.subscribe().await.unwrap();
    fixture.index.learn(&[session(1_001)]);
    let mut published = first.changes.resubscribe();
    published.recv().await.unwrap();
    let second = fixture.feed.subscribe().await.unwrap();
    assert!(Arc::ptr_eq(&first.snapshot, &second.snapshot));
    assert_eq!((first.since.len(), second.since.len()), (0, 1));
    let mut events = fixture.watch(Cursor::START);
    assert_eq!(snapshot(&mut events).await.len(), 1_001);
}

#[tokio::test]
async fn a_heartbeat_comes_after_all_that_it_covers() {
    let fixture = Fixture::with(0);
    let mut events = fixture.watch(Cursor::START);
    snapshot(&mut events).await;
    let mut positions = Vec::new();
    for position in 1..=50 {
        fixture.index.learn(&[session(position)]);
        let covered = at(position);
        fixture.index.caught_up(Duration::ZERO, covered);
        loop {
            match next(&mut events).await.unwrap().unwrap() {
                FeedEvent::Revocations(batch) => {
                    positions.extend(batch.iter().map(|revocation| revocation.position / STEP));
                    break;
                }
                FeedEvent::Heartbeat(heartbeat) => {
                    let sent = positions.last().map_or(0, |number| number * STEP);
                    assert!(heartbeat.cursor.position() <= sent, "{heartbeat:?}");
                    assert!(covered.is_at_least(heartbeat.cursor));
                }
                _ => {}
            }
        }
    }
    assert_eq!(positions, (1..=50).collect::<Vec<_>>());
}

#[tokio::test]
async fn more_changes_than_the_channel_holds_are_all_sent() {
    let fixture = Fixture::with(0);
    let mut events = fixture.watch(Cursor::START);
    snapshot(&mut events).await;
    // In one go: the hub cannot read in between.
    fixture
        .index
        .learn(&(1..=20_000).map(session).collect::<Vec<_>>());
    let mut positions = std::collections::BTreeSet::new();
    while positions.len() < 20_000 {
        if let FeedEvent::Revocations(batch) = next(&mut events).await.unwrap().unwrap() {
            positions.extend(batch.iter().map(|revocation| revocation.position));
        }
    }
}

#[tokio::test]
async fn a_watcher_that_does_not_read_is_disconnected_and_keeps_no_snapshot() {
    let fixture = Fixture::with(10_000);
    let timeouts = ReadTimeouts {
        event: Duration::from_millis(20),
        snapshot: WAIT,
    };
    let mut events = fixture.feed.watch_with(Cursor::START, timeouts, || Ok(()));
    while fixture.feed.watchers() > 0 || events.len() < 5 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // What is left is the queue and the reason of the end.
    let mut received = Vec::new();
    while let Some(event) = next(&mut events).await {
        received.push(event);
    }
    assert_eq!(received.len(), 5);
    assert!(matches!(received[4], Err(WatchEnd::TooSlow)));
    let shared = fixture.feed.inner.shared.lock().await;
    let snapshot = &shared.as_ref().unwrap().snapshot;
    assert_eq!(Arc::strong_count(snapshot), 1);
}

#[tokio::test]
async fn a_watcher_that_reads_the_snapshot_too_slowly_is_disconnected() {
    let fixture = Fixture::with(10_000);
    let timeouts = ReadTimeouts {
        event: WAIT,
        snapshot: Duration::from_millis(50),
    };
    let mut events = fixture.feed.watch_with(Cursor::START, timeouts, || Ok(()));
    let mut last = None;
    while let Some(event) = next(&mut events).await {
        last = Some(event);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(matches!(last, Some(Err(WatchEnd::TooSlow))));
}

#[tokio::test]
async fn a_watcher_that_is_no_longer_allowed_gets_the_reason() {
    let fixture = Fixture::with(0);
    let (sender, allowed) = tokio::sync::watch::channel(Ok(()));
    let mut events = fixture.feed.watch(Cursor::START, move || *allowed.borrow());
    while !matches!(
        tokio::time::timeout(WAIT, events.recv()).await.unwrap(),
        Some(Ok(FeedEvent::Heartbeat(_)))
    ) {}
    sender.send(Err("gone")).unwrap();
    let end = tokio::time::timeout(WAIT, events.recv()).await.unwrap();
    assert!(matches!(end, Some(Err(WatchEnd::NotAllowed("gone")))));
    assert!(events.recv().await.is_none());
}

#[tokio::test]
async fn when_the_hub_stops_every_stream_ends() {
    let fixture = Fixture::with(0);
    let mut events = fixture.watch(Cursor::START);
    snapshot(&mut events).await;
    fixture.stop.cancel();
    while next(&mut events).await.is_some() {}
    let mut late = fixture.watch(Cursor::START);
    assert!(next(&mut late).await.is_none());
}

#[tokio::test]
async fn many_watchers_that_connect_at_once_are_all_served() {
    let fixture = Fixture::with(2_000);
    let mut watchers: Vec<_> = (0..200).map(|_| fixture.watch(Cursor::START)).collect();
    for events in &mut watchers {
        assert_eq!(snapshot(events).await.len(), 2_000);
    }
}

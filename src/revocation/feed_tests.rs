//! The feed without a network: what watchers share, and how slow ones are treated.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    clock::ManualClock,
    domain::{Revocation, RevokedSubject, SessionId},
    revocation::{Hearing, WatchEnd, watcher::Patience},
};

const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
const WAIT: Duration = Duration::from_secs(20);

struct World {
    index: Arc<RevocationIndex>,
    feed: Feed,
    stop: CancellationToken,
}

impl World {
    /// A feed of `count` revocations, at the positions from 1 on.
    fn with(count: u64) -> Self {
        let index = Arc::new(RevocationIndex::default());
        index.learn(&(1..=count).map(session).collect::<Vec<_>>());
        let clock = Clock::Manual(ManualClock::new(NOW));
        let keyring = Arc::new(Keyring::for_tests());
        let (feed, hub) = Feed::new(Arc::clone(&index), keyring, clock);
        let stop = CancellationToken::new();
        tokio::spawn(hub.run(stop.clone()));
        Self { index, feed, stop }
    }

    fn watch(&self, cursor: Cursor) -> Hearing<()> {
        self.feed.watch(cursor, || Ok(()))
    }
}

fn session(position: u64) -> PositionedRevocation {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&position.to_be_bytes());
    PositionedRevocation {
        position: i64::try_from(position).unwrap(),
        revocation: Revocation {
            subject: RevokedSubject::Session(SessionId::from_bytes(id)),
            not_before: Timestamp::default(),
            created_at: Timestamp::default(),
            expires_at: NOW + Duration::from_secs(600),
        },
    }
}

async fn next(hearing: &mut Hearing<()>) -> Option<Result<FeedEvent, WatchEnd<()>>> {
    tokio::time::timeout(WAIT, hearing.recv())
        .await
        .expect("something is told in time")
}

/// The positions told up to the mark; the keys came before them.
async fn snapshot(hearing: &mut Hearing<()>) -> Vec<i64> {
    assert!(matches!(next(hearing).await, Some(Ok(FeedEvent::Keys(_)))));
    let mut positions = Vec::new();
    loop {
        match next(hearing).await.unwrap().unwrap() {
            FeedEvent::Revocations(batch) => {
                assert!((1..=BATCH).contains(&batch.len()));
                positions.extend(batch.iter().map(|revocation| revocation.position));
            }
            FeedEvent::SnapshotComplete => return positions,
            FeedEvent::Keys(_) | FeedEvent::Heartbeat(_) => panic!("not before the mark"),
        }
    }
}

#[tokio::test]
async fn a_snapshot_comes_in_parts_and_a_cursor_leaves_out_what_is_known() {
    let world = World::with(1_000);
    let all = snapshot(&mut world.watch(Cursor::START)).await;
    assert_eq!(all, (1..=1_000).collect::<Vec<_>>());
    for first in [1, 2, 256, 257, 999, 1_000] {
        let rest = snapshot(&mut world.watch(Cursor::at(first))).await;
        assert_eq!(rest, (first..=1_000).collect::<Vec<_>>());
    }
    assert!(
        snapshot(&mut world.watch(Cursor::at(1_001)))
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn what_has_no_position_yet_is_told_to_everybody() {
    let world = World::with(10);
    let mut unknown = session(11);
    unknown.position = 0;
    world.index.learn(&[unknown]);
    assert_eq!(snapshot(&mut world.watch(Cursor::at(10))).await, [10, 0]);
}

#[tokio::test]
async fn a_cursor_of_another_future_gets_everything() {
    let world = World::with(10);
    let beyond = Cursor::at(NOW.micros() + 1);
    assert_eq!(snapshot(&mut world.watch(beyond)).await.len(), 10);
}

#[tokio::test]
async fn watchers_share_one_snapshot_and_hear_what_came_after_it() {
    let world = World::with(1_000);
    let first = world.feed.join().await.unwrap();
    world.index.learn(&[session(1_001)]);
    let mut told = first.events.resubscribe();
    told.recv().await.unwrap();
    let second = world.feed.join().await.unwrap();
    assert!(Arc::ptr_eq(&first.snapshot, &second.snapshot));
    assert_eq!((first.since.len(), second.since.len()), (0, 1));
    let mut hearing = world.watch(Cursor::START);
    assert_eq!(snapshot(&mut hearing).await.len(), 1_001);
}

#[tokio::test]
async fn a_heartbeat_is_told_behind_all_that_it_covers() {
    let world = World::with(0);
    let mut hearing = world.watch(Cursor::START);
    snapshot(&mut hearing).await;
    let mut positions = Vec::new();
    for position in 1..=50 {
        world.index.learn(&[session(position)]);
        let covered = i64::try_from(position).unwrap();
        world.index.caught_up(Duration::ZERO, covered + 1);
        loop {
            match next(&mut hearing).await.unwrap().unwrap() {
                FeedEvent::Revocations(batch) => {
                    positions.extend(batch.iter().map(|revocation| revocation.position));
                    break;
                }
                FeedEvent::Heartbeat(heartbeat) => {
                    assert!(heartbeat.cursor.position() <= covered);
                }
                _ => {}
            }
        }
    }
    assert_eq!(positions, (1..=50).collect::<Vec<_>>());
}

#[tokio::test]
async fn more_changes_than_the_channel_holds_are_all_told() {
    let world = World::with(0);
    let mut hearing = world.watch(Cursor::START);
    snapshot(&mut hearing).await;
    // In one go: the hub cannot read in between.
    world
        .index
        .learn(&(1..=20_000).map(session).collect::<Vec<_>>());
    let mut positions = std::collections::BTreeSet::new();
    while positions.len() < 20_000 {
        if let FeedEvent::Revocations(batch) = next(&mut hearing).await.unwrap().unwrap() {
            positions.extend(batch.iter().map(|revocation| revocation.position));
        }
    }
}

#[tokio::test]
async fn who_does_not_listen_is_cut_off_and_keeps_no_snapshot_alive() {
    let world = World::with(10_000);
    let patience = Patience {
        event: Duration::from_millis(20),
        snapshot: WAIT,
    };
    let mut hearing = world.feed.watch_with(Cursor::START, patience, || Ok(()));
    while world.feed.watchers() > 0 || hearing.len() < 5 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // What is left is the queue and the farewell.
    let mut heard = Vec::new();
    while let Some(event) = next(&mut hearing).await {
        heard.push(event);
    }
    assert_eq!(heard.len(), 5);
    assert!(matches!(heard[4], Err(WatchEnd::TooSlow)));
    let shared = world.feed.inner.shared.lock().await;
    let snapshot = &shared.as_ref().unwrap().snapshot;
    assert_eq!(Arc::strong_count(snapshot), 1);
}

#[tokio::test]
async fn who_takes_too_long_for_the_snapshot_is_cut_off() {
    let world = World::with(10_000);
    let patience = Patience {
        event: WAIT,
        snapshot: Duration::from_millis(50),
    };
    let mut hearing = world.feed.watch_with(Cursor::START, patience, || Ok(()));
    let mut last = None;
    while let Some(event) = next(&mut hearing).await {
        last = Some(event);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(matches!(last, Some(Err(WatchEnd::TooSlow))));
}

#[tokio::test]
async fn who_is_no_longer_welcome_is_told_why() {
    let world = World::with(0);
    let (sender, welcome) = tokio::sync::watch::channel(Ok(()));
    let mut hearing = world.feed.watch(Cursor::START, move || *welcome.borrow());
    while !matches!(
        tokio::time::timeout(WAIT, hearing.recv()).await.unwrap(),
        Some(Ok(FeedEvent::Heartbeat(_)))
    ) {}
    sender.send(Err("gone")).unwrap();
    let end = tokio::time::timeout(WAIT, hearing.recv()).await.unwrap();
    assert!(matches!(end, Some(Err(WatchEnd::Unwelcome("gone")))));
    assert!(hearing.recv().await.is_none());
}

#[tokio::test]
async fn when_the_hub_stops_every_stream_ends() {
    let world = World::with(0);
    let mut hearing = world.watch(Cursor::START);
    snapshot(&mut hearing).await;
    world.stop.cancel();
    while next(&mut hearing).await.is_some() {}
    let mut late = world.watch(Cursor::START);
    assert!(next(&mut late).await.is_none());
}

#[tokio::test]
async fn many_who_come_at_once_are_served_in_turns() {
    let world = World::with(2_000);
    let mut herd: Vec<_> = (0..200).map(|_| world.watch(Cursor::START)).collect();
    for hearing in &mut herd {
        assert_eq!(snapshot(hearing).await.len(), 2_000);
    }
}

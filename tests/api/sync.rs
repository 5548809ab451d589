//! Reading what other replicas wrote, step by step, with clocks that the test moves: commits that come late,
//! tables that were put back, clocks that were set.

use std::{sync::Arc, time::Duration};

use countersign::{
    clock::{Clock, ManualClock, Timestamp},
    config::Config,
    domain::{RevokedSubject, SessionId},
    revocation::{RevocationIndex, RevocationSync, SyncParts},
    store::Store,
    tokens::{DerivedKeys, Keyring, SigningPolicy},
};

use crate::support::{
    Kind, TestDatabase, on_both_databases,
    server::{START, test_variables},
};

const HOUR: Duration = Duration::from_secs(3600);

/// A replica reduced to what it knows of revocations.
struct Reader {
    sync: RevocationSync,
    index: Arc<RevocationIndex>,
    clock: ManualClock,
    store: Store,
}

impl Reader {
    async fn new(database: &TestDatabase) -> Self {
        let config = Config::from_vars(test_variables(database, &[])).unwrap();
        let store = Store::open_or_create(&config.database).unwrap();
        store.migrate().await.unwrap();
        let clock = ManualClock::new(START);
        let derived_keys = Arc::new(DerivedKeys::derive(
            config.master_keys.load().unwrap().as_slice(),
        ));
        let policy = SigningPolicy {
            algorithm: config.signing.algorithm,
            rotation: config.signing.rotation,
            lead: config.signing.lead,
            jwks_max_age: config.signing.jwks_max_age,
            poll_interval: config.revocation.poll_interval,
            token_life: HOUR,
        };
        let keyring = Keyring::load(&store, &derived_keys, policy, clock.now())
            .await
            .unwrap();
        let index = Arc::new(RevocationIndex::default());
        let sync = RevocationSync::new(SyncParts {
            store: store.clone(),
            index: Arc::clone(&index),
            keyring: Arc::new(keyring),
            directory: Arc::default(),
            derived_keys,
            clock: Clock::Manual(clock.clone()),
            poll_interval: Duration::from_secs(5),
        });
        Self {
            sync,
            index,
            clock,
            store,
        }
    }

    async fn knows(&self, number: u8) -> bool {
        self.sync.catch_up().await.unwrap();
        let subject = RevokedSubject::Session(session(number));
        self.index
            .live_since(i64::MIN)
            .iter()
            .any(|known| known.revocation.subject == subject)
    }

    /// Reads often enough, and for long enough, that the floor follows to all that is in the table.
    async fn settle(&self) {
        for _ in 0..3 {
            self.sync.catch_up().await.unwrap();
            self.clock.advance(Duration::from_secs(11));
        }
        self.sync.catch_up().await.unwrap();
    }
}

fn session(number: u8) -> SessionId {
    SessionId::from_bytes([number; 16])
}

fn insert(number: u8, position: i64, expires_at: Timestamp) -> String {
    format!(
        "INSERT INTO revocations (id, kind, subject, not_before, created_at, expires_at, position)
         VALUES ('{number}', 'session', '{}', 0, 0, {}, {position})",
        session(number),
        expires_at.micros()
    )
}

on_both_databases! {
    async fn expired_revocations_are_deleted_from_memory_and_table(database: TestDatabase) {
        let reader = Reader::new(&database).await;
        let soon = START + HOUR;
        for number in 1..=9 {
            database.execute(&insert(number, i64::from(number), soon)).await;
        }
        assert!(reader.knows(9).await);
        assert_eq!(reader.index.len(), 9);
        reader.clock.advance(HOUR);
        assert_eq!(reader.store.purge(reader.clock.now()).await.unwrap(), 8, "all but the newest");
        assert_eq!(reader.store.purge(reader.clock.now()).await.unwrap(), 0);
        reader.index.forget_expired(reader.clock.now());
        assert!(reader.index.is_empty());
        // Reading again what is left of the table does not bring it back to memory.
        reader.settle().await;
        assert!(reader.index.is_empty());
        database.execute(&insert(10, 10, soon + HOUR)).await;
        assert!(reader.knows(10).await);
        assert_eq!(reader.store.purge(reader.clock.now()).await.unwrap(), 1);
    }

    async fn a_restored_table_is_read_again(database: TestDatabase) {
        let reader = Reader::new(&database).await;
        let later = START + HOUR;
        for number in 1..=3 {
            database.execute(&insert(number, 1_000 + i64::from(number), later)).await;
        }
        reader.settle().await;
        assert_eq!(reader.index.cursor().position(), 1_003);
        // A backup from before is restored, and the writers' clocks are behind as well.
        database.execute("DELETE FROM revocations").await;
        database.execute(&insert(4, 4, later)).await;
        assert!(reader.knows(4).await);
        assert!(reader.knows(1).await, "what was known stays known");
    }

    async fn revocations_dropped_while_the_clock_was_ahead_are_read_again(database: TestDatabase) {
        let reader = Reader::new(&database).await;
        database.execute(&insert(1, 1, START + HOUR)).await;
        reader.settle().await;
        let truth = reader.clock.now();
        reader.clock.set(truth + 2 * HOUR);
        reader.sync.catch_up().await.unwrap();
        reader.index.forget_expired(reader.clock.now());
        assert!(reader.index.is_empty());
        reader.clock.set(truth);
        assert!(reader.knows(1).await);
    }

    async fn the_age_of_the_last_read_does_not_depend_on_the_time_of_day(database: TestDatabase) {
        let reader = Reader::new(&database).await;
        let second = Duration::from_secs(1);
        let clock = Clock::Manual(reader.clock.clone());
        let as_of = || reader.index.as_of(clock.now(), clock.monotonic());
        assert_eq!(as_of(), Timestamp::default());
        reader.sync.catch_up().await.unwrap();
        assert_eq!(as_of(), START);
        reader.clock.advance(30 * second);
        assert_eq!(as_of(), START);
        reader.clock.set(START - HOUR);
        assert_eq!(as_of(), START - HOUR - 30 * second);
        reader.sync.catch_up().await.unwrap();
        assert_eq!(as_of(), START - HOUR);
    }

    async fn more_revocations_than_fit_on_a_page_are_all_read(database: TestDatabase) {
        let reader = Reader::new(&database).await;
        // All of them at a few positions, so that pages end between rows of the same.
        database.execute(
            "INSERT INTO revocations (id, kind, subject, not_before, created_at, expires_at, position)
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12345)
             SELECT 'row ' || i, 'session', '019ac000-0000-7000-8000-0000000' || (10000 + i),
                    0, 0, 9223372036854775807, i / 6000 FROM n"
        ).await;
        reader.sync.catch_up().await.unwrap();
        assert_eq!(reader.index.len(), 12_345);
    }
}

/// Takes a position, waits while others commit beyond it, and commits at last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_commits_late_is_not_missed() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let reader = Reader::new(&database).await;
    let later = START + 24 * HOUR;
    database.execute(&insert(1, 1_000, later)).await;
    reader.settle().await;
    assert_eq!(reader.index.cursor().position(), 1_000);

    let slow = database.client().await;
    slow.batch_execute("BEGIN").await.unwrap();
    slow.batch_execute(&insert(2, 1_001, later)).await.unwrap();
    for number in 3..20 {
        database
            .execute(&insert(number, 1_000 + i64::from(number), later))
            .await;
        assert!(reader.knows(number).await);
        reader.clock.advance(Duration::from_millis(500));
    }
    assert!(!reader.knows(2).await, "not committed yet");
    slow.batch_execute("COMMIT").await.unwrap();
    // However long the reader sleeps before it looks.
    reader.clock.advance(HOUR);
    assert!(reader.knows(2).await);
}

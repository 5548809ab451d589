//! What every test starts from: a database of its own, a server on it, and short words for the calls.

pub mod audit_events;
pub mod client;
pub mod cluster;
pub mod database;
pub mod factors;
pub mod forge;
pub mod guesses;
pub mod issuer;
// The tests of the crate of verifiers measure it in the same way.
#[path = "../../../verifier/tests/all/support/lateness.rs"]
pub mod lateness;
pub mod mailbox;
pub mod operator;
pub mod passkey;
pub mod pooler;
pub mod process;
pub mod proxy;
pub mod raw;
pub mod server;
pub mod services;
pub mod smtp;
pub mod statements;
pub mod tls;
pub mod web;

use std::time::Duration;

use countersign::clock::{Clock, ManualClock};
use tokio::time::{Instant, sleep};

pub use client::{PASSWORD, failure, is_undecided, reason};
pub use database::{Kind, TestDatabase};
use server::START;
pub use server::TestServer;

/// How long a test waits for what must happen before it fails. Far longer than it takes, so that a busy
/// machine does not make it fail.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until a condition holds, and says how long that took.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        sleep(Duration::from_millis(5)).await;
    }
    start.elapsed()
}

/// The clocks with which races run: a manual one that stands still, and the system clock.
pub fn clocks() -> [Clock; 2] {
    [Clock::Manual(ManualClock::new(START)), Clock::System]
}

/// Writes each test once and runs it on SQLite and on PostgreSQL. A race takes `clock: Clock` as well: it runs with a clock
/// that stands still and again, on a fresh database, with the system clock, since a clock that stands still hides races
/// of times.
macro_rules! on_both_databases {
    ($($(#[doc = $doc:literal])* async fn $name:ident($database:ident: TestDatabase $(, $clock:ident: Clock)?) $body:block)+) => {
        $($(#[doc = $doc])* async fn $name($database: TestDatabase $(, $clock: Clock)?) $body)+

        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                crate::support::on_database!(super::$name, Sqlite $(, $clock)?);
            })+
        }

        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                crate::support::on_database!(super::$name, Postgres $(, $clock)?);
            })+
        }
    };
}

/// Runs a test on a fresh database of that kind, a race once with each clock.
macro_rules! on_database {
    ($test:path, $kind:ident) => {
        $test(crate::support::TestDatabase::create(crate::support::Kind::$kind).await).await;
    };
    ($test:path, $kind:ident, $clock:ident) => {
        for $clock in crate::support::clocks() {
            println!("{:?}", $clock);
            let database = crate::support::TestDatabase::create(crate::support::Kind::$kind).await;
            $test(database, $clock).await;
        }
    };
}

pub(crate) use {on_both_databases, on_database};

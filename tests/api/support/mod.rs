//! What every test starts from: a database of its own, a server on it, and short words for the calls.

pub mod audit_events;
pub mod client;
pub mod cluster;
pub mod database;
pub mod factors;
pub mod forge;
pub mod guesses;
pub mod issuer;
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
pub mod tls;
pub mod web;

use std::time::Duration;

use tokio::time::{Instant, sleep};

pub use client::{PASSWORD, failure, is_undecided, reason};
pub use database::{Kind, TestDatabase};
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

/// Writes each test once and runs it on SQLite and on PostgreSQL.
macro_rules! on_both_databases {
    ($($(#[doc = $doc:literal])* async fn $name:ident($database:ident: TestDatabase) $body:block)+) => {
        $($(#[doc = $doc])* async fn $name($database: TestDatabase) $body)+

        mod sqlite {
            use crate::support::{Kind, TestDatabase};
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(TestDatabase::create(Kind::Sqlite).await).await;
            })+
        }

        mod postgres {
            use crate::support::{Kind, TestDatabase};
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(TestDatabase::create(Kind::Postgres).await).await;
            })+
        }
    };
}

pub(crate) use on_both_databases;

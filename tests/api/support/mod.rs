//! What every test starts from: a database of its own, a server on it, and short words for the calls.

pub mod client;
pub mod database;
pub mod process;
pub mod proxy;
pub mod server;
pub mod web;

pub use client::{PASSWORD, failure, reason};
pub use database::{Kind, TestDatabase};
pub use server::TestServer;

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

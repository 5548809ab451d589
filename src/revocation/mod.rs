//! Revoked access tokens that have not expired, in memory, so that validation needs no database.

mod checkpoints;
mod cursor;
mod feed;
mod index;
mod listener;
mod sync;
mod watcher;

pub use cursor::Cursor;
pub use feed::{Batch, Feed, FeedEvent, FeedHub, Heartbeat};
pub use index::{Change, LastRead, RevocationIndex};
pub use sync::{RevocationSync, SyncParts};
pub use watcher::{WatchEnd, WatchEvents};

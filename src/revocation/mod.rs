//! Which access tokens were revoked before they expire, known without asking the database.

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

//! Which access tokens are dead before their time, known without asking the database.

mod checkpoints;
mod index;
mod listener;
mod sync;

pub use index::{Change, LastRead, RevocationIndex};
pub use sync::{RevocationSync, SyncParts};

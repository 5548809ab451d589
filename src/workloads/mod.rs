//! Authentication of services: trusted issuers, service accounts and their keys, in memory.

mod directory;
mod entries;
pub mod issuers;
mod service_key;

pub use directory::{DIRECTORY_MAX_AGE, Directory};
pub use entries::{AccountLookup, KnownAccount};

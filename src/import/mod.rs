//! Users of other systems, brought in with their password hashes.
//!
//! `sources` reads an export and hands over one [`Record`] after the other; `record` reads our own form, one JSON object
//! a line. [`Preparer`] checks a record and encrypts its hash, [`Importer`] writes batches, each in one transaction. A
//! record that cannot be imported has a [`Reason`] and stops nothing. The command `users import` and the RPC
//! `ImportUsers` share all of it. `docs/import.md`, decision 1202.

mod importer;
mod lines;
mod prepare;
mod reason;
mod record;
pub mod sources;
mod time;

pub use self::{
    importer::{Batch, Counts, Importer, Refused},
    prepare::{Prepared, Preparer},
    reason::Reason,
    record::Record,
};

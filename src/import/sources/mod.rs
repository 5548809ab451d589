//! Exports of other systems, read one account after the other.
//!
//! Each reader turns an account into a [`Record`] of our own; nothing is checked here that `prepare` checks. Roles of
//! other systems are left out unless they are asked for, and never `admin` and `verifier`: those open services of
//! Countersign. Memory is bounded by the largest account, which may have 1 MiB.

mod auth0;
mod budget;
mod django;
mod elements;
mod entry;
mod firebase;
mod keycloak;
mod roles;
#[cfg(test)]
mod tests;
mod wordpress;

use std::io::BufRead;

use self::entry::each_line;
pub use self::{
    auth0::PasswordHashes,
    entry::{Entry, ReadError, Sink, SourceOptions},
    firebase::HashConfig,
};
use super::Record;

/// What an export is read as.
pub enum Source {
    /// Our own form: one JSON object a line.
    Records,
    /// A realm export of Keycloak.
    Keycloak,
    /// `firebase auth:export` as JSON, with the hash parameters of the project.
    Firebase(HashConfig),
    /// A user export of Auth0 with the dump of its password hashes, or the dump alone.
    Auth0(Option<PasswordHashes>),
    /// `manage.py dumpdata auth.user`, as JSON or JSON lines.
    Django,
    /// `wp user list` as CSV or JSON, or the table `wp_users` as CSV with the names of its columns.
    WordPress,
}

impl Source {
    /// Reads all accounts of an export.
    ///
    /// # Errors
    /// [`ReadError`]: what has been handed over until then stays.
    pub fn read(
        &self,
        reader: impl BufRead,
        options: SourceOptions,
        sink: Sink<'_>,
    ) -> Result<(), ReadError> {
        match self {
            Self::Records => Ok(each_line(reader, sink, |line| {
                Some(Record::parse(line.as_bytes()))
            })?),
            Self::Auth0(hashes) => Ok(each_line(reader, sink, |line| {
                Some(auth0::record(line, hashes.as_ref()))
            })?),
            Self::Keycloak => keycloak::read(reader, options, sink),
            Self::Firebase(config) => firebase::read(reader, config, sink),
            Self::Django => django::read(reader, sink),
            Self::WordPress => wordpress::read(reader, options, sink),
        }
    }
}

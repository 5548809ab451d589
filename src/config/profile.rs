//! Where the service runs: development, test or production.

use std::fmt;

use serde::Deserialize;

/// Where the service runs; decides a few defaults and what is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Profile {
    /// A developer's machine: everything has a default, and keys are made where none are given.
    Development,
    /// As development, but nothing is written where the caller did not point: the database must be
    /// named, and with PostgreSQL the master keys must be given. `.env` is not read.
    Test,
    /// Refuses what is convenient and unsafe. `.env` is not read: one that slipped into an image
    /// must not weaken it.
    Production,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Development => "development",
            Self::Test => "test",
            Self::Production => "production",
        })
    }
}

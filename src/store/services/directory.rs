//! The version of service accounts and keys together.
//!
//! One row counts the changes. A transaction that changes an account or a key changes this row first and holds its lock
//! until the commit, so versions become visible in their order: a reader who knows one has to read only what is newer.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::store::{Store, StoreError, read, schema::service_directory};

/// The one row.
pub(in crate::store) const ROW: &str = "directory";

/// Rows of accounts or keys that are read by one statement.
pub(in crate::store) const PAGE: i64 = 1_000;

/// An account or a key, and the version in which it changed last.
#[derive(Clone, Debug)]
pub struct Versioned<T> {
    /// The account or key.
    pub item: T,
    /// The version.
    pub version: i64,
}

/// How far the directory has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectoryVersion {
    /// The version of the newest change.
    pub newest: i64,
    /// The version in which something was deleted last.
    pub deleted: i64,
}

/// Takes the next version. A transaction begins with it. A macro, because diesel's queries cannot be written once for both
/// kinds of connection in a function.
macro_rules! next_version {
    ($conn:expr) => {{
        use $crate::store::{schema::service_directory, services::directory::ROW};
        let count = || {
            diesel::update(service_directory::table.find(ROW))
                .set(service_directory::version.eq(service_directory::version + 1))
                .returning(service_directory::version)
        };
        let version: Option<i64> = count().get_result($conn).await.optional()?;
        match version {
            Some(version) => version,
            // Somebody has deleted the row: everything counts as changed.
            None => {
                diesel::insert_into(service_directory::table)
                    .values((
                        service_directory::id.eq(ROW),
                        service_directory::version.eq(0),
                        service_directory::deleted_version.eq(0),
                    ))
                    .on_conflict_do_nothing()
                    .execute($conn)
                    .await?;
                count().get_result($conn).await?
            }
        }
    }};
}

pub(in crate::store) use next_version;

impl Store {
    /// The version of the directory.
    ///
    /// # Errors
    /// The database fails.
    pub async fn directory_version(&self) -> Result<DirectoryVersion, StoreError> {
        let row: Option<(i64, i64)> = read!(self, |conn| {
            Ok(service_directory::table
                .find(ROW)
                .select((
                    service_directory::version,
                    service_directory::deleted_version,
                ))
                .get_result(conn)
                .await
                .optional()?)
        })?;
        let (newest, deleted) = row.unwrap_or_default();
        Ok(DirectoryVersion { newest, deleted })
    }
}

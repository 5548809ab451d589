//! Backups of a SQLite database while it is in use.
//!
//! `VACUUM INTO` copies what one read transaction sees, so the copy is consistent however many writers there are, and
//! it needs no start over when they write, as SQLite's backup API does. That API is not reachable from diesel
//! without `unsafe` code. Decision 0705.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use diesel::sql_types::Text;
use diesel_async::RunQueryDsl as _;

use crate::store::{StoreError, connections::sqlite, revocations::feed_state};

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The database to be copied does not exist.
    #[error("there is no database at {0}")]
    NoDatabase(String),
    /// The file exists; no backup replaces another.
    #[error("{0} exists already: a backup replaces no file")]
    Exists(String),
    /// SQLite takes file names as text.
    #[error("{0} is not valid UTF-8")]
    NotText(String),
    /// The file could not be written.
    #[error("{file} could not be written: {cause}")]
    Write {
        /// Its name.
        file: String,
        /// What the system says.
        cause: io::Error,
    },
    /// The database could not be read, or the copy not be written.
    #[error(transparent)]
    Copy(#[from] StoreError),
}

/// Copies the SQLite database to a new file that its owner alone can read, and forces it to the disk. What was
/// committed before it began is in the copy; nothing uncommitted is.
///
/// # Errors
/// [`BackupError`]. A file that was begun is removed.
pub async fn back_up_sqlite(database: &Path, file: &Path) -> Result<(), BackupError> {
    let name = || file.display().to_string();
    let failed = |cause| BackupError::Write {
        file: name(),
        cause,
    };
    if !database.is_file() {
        return Err(BackupError::NoDatabase(database.display().to_string()));
    }
    let target = file.to_str().ok_or_else(|| BackupError::NotText(name()))?;
    // SQLite accepts an empty file, and made by us it has the right mode from the first byte.
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => BackupError::Exists(name()),
            _ => failed(error),
        })?;
    let copied = async {
        copy(database, target).await?;
        created.sync_all().map_err(failed)?;
        let folder = file
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or(Path::new("."))).map_err(failed)?;
        folder.sync_all().map_err(failed)
    };
    let copied = copied.await;
    if copied.is_err() {
        // The error above is worth more than one about the remains.
        let _ = fs::remove_file(file);
    }
    copied
}

async fn copy(database: &Path, target: &str) -> Result<(), StoreError> {
    let mut connection =
        sqlite::connect(database).map_err(|error| StoreError::Unavailable(error.to_string()))?;
    diesel::sql_query("VACUUM INTO ?")
        .bind::<Text, _>(target)
        .execute(&mut connection)
        .await?;
    // Whoever restores the copy loses what was revoked since, so its feed has another epoch.
    let mut copy = sqlite::connect(Path::new(target))
        .map_err(|error| StoreError::Unavailable(error.to_string()))?;
    feed_state::forget_history(&mut copy).await
}

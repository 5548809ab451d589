//! The SQLite file as a file: only the server and `migrate` create it, and only one process serves it.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use super::StoreError;

/// Refuses a file that is not there.
pub(super) fn demand(path: &Path) -> Result<(), StoreError> {
    match fs::exists(path) {
        Ok(true) => Ok(()),
        Ok(false) => Err(StoreError::Unavailable(format!(
            "there is no file {}: `countersign serve` and `countersign migrate` create it (a relative path begins at \
             the working directory)",
            path.display()
        ))),
        Err(error) => Err(failed(path)(error)),
    }
}

/// While it lives, no other process serves this SQLite file: revocations reach other processes by PostgreSQL's
/// notifications, which SQLite does not have. Several servers of one process share it, as tests do.
///
/// It is an advisory lock (`flock`) on a file of its own beside the database: the system releases it when the process
/// ends, also by a crash. SQLite's own locks are on the database file and must not be disturbed.
#[derive(Clone, Debug)]
pub struct ServerLock(
    #[expect(dead_code, reason = "closing the file releases the lock")] Arc<File>,
);

/// The locks of this process.
static HELD: Mutex<BTreeMap<PathBuf, Weak<File>>> = Mutex::new(BTreeMap::new());

impl ServerLock {
    pub(super) fn take(database: &Path) -> Result<Self, StoreError> {
        let database = fs::canonicalize(database).map_err(failed(database))?;
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = held.get(&database).and_then(Weak::upgrade) {
            return Ok(Self(file));
        }
        let file = Arc::new(lock(&database)?);
        held.insert(database, Arc::downgrade(&file));
        Ok(Self(file))
    }
}

fn lock(database: &Path) -> Result<File, StoreError> {
    let mut path = OsString::from(database);
    path.push(".server-lock");
    let path = PathBuf::from(path);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&path).map_err(failed(&path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = io::read_to_string(&file).unwrap_or_default();
            return Err(StoreError::Unavailable(format!(
                "another server (process {}) uses {}: a SQLite file is for one server, PostgreSQL is for several",
                holder.trim(),
                database.display()
            )));
        }
        Err(TryLockError::Error(error)) => return Err(failed(&path)(error)),
    }
    // For the message above.
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(failed(&path))?;
    Ok(file)
}

fn failed(path: &Path) -> impl Fn(io::Error) -> StoreError {
    move |error| StoreError::Unavailable(format!("cannot open {}: {error}", path.display()))
}

//! The SQLite file as a file: only the server and `migrate` create it, only one process serves it, and it must stay where it
//! is.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use crate::{
    config::{demand_regular, open_with},
    store::StoreError,
};

/// Refuses a file that is not there.
pub(in crate::store) fn demand(path: &Path) -> Result<(), StoreError> {
    // Only a look: closing a file descriptor of the database would release the locks that SQLite has on it.
    match demand_regular(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(StoreError::Unavailable(format!(
                "there is no file {}: `countersign serve` and `countersign migrate` create it (a relative path begins at \
             the working directory)",
                path.display()
            )))
        }
        Err(error) => Err(failed(path)(error)),
    }
}

/// Creates the database's folder and file so that nobody else on the machine can read them.
pub(in crate::store) fn create(path: &Path) -> Result<(), StoreError> {
    let folder = path.parent();
    if let Some(folder) = folder.filter(|folder| !folder.as_os_str().is_empty()) {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(folder).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                let text = format!("{} is not a folder", folder.display());
                failed(path)(io::Error::new(io::ErrorKind::NotADirectory, text))
            }
            _ => failed(path)(error),
        })?;
    }
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    open_with(path, &mut options).map_err(failed(path))?;
    Ok(())
}

/// Which file a path named when the database was opened. SQLite goes on with that file when it is deleted or another takes
/// its name, and what is written then is lost with the process.
#[derive(Clone, Debug)]
pub(in crate::store) struct FileIdentity {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl FileIdentity {
    pub(in crate::store) fn of(path: &Path) -> Result<Self, StoreError> {
        let file = fs::metadata(path).map_err(failed(path))?;
        Ok(Self {
            path: path.to_owned(),
            device: file.dev(),
            inode: file.ino(),
        })
    }

    /// The path.
    pub(in crate::store) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the path still names that file.
    pub(in crate::store) fn check(&self) -> Result<(), StoreError> {
        let now = fs::metadata(&self.path);
        if now.is_ok_and(|now| (now.dev(), now.ino()) == (self.device, self.inode)) {
            return Ok(());
        }
        Err(StoreError::Unavailable(format!(
            "the file {} was deleted or replaced while it was in use: what is written would be lost; put it back, or stop \
             this process before another file takes its place",
            self.path.display()
        )))
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
    pub(in crate::store) fn take(database: &Path) -> Result<Self, StoreError> {
        let database = fs::canonicalize(database).map_err(failed(database))?;
        // SQLite's files beside the database have its name, so under two names it is soon damaged ("How to corrupt an SQLite
        // database file", section 2.5); nor would the lock beside it hold the other name.
        if fs::metadata(&database).map_err(failed(&database))?.nlink() > 1 {
            return Err(StoreError::Unavailable(format!(
                "{} has other names (hard links): a server that uses one of them would damage the database; delete the \
                 other names, or give them a copy",
                database.display()
            )));
        }
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
    options.mode(0o600);
    let mut file = open_with(&path, &mut options).map_err(failed(&path))?;
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

//! The key file that development keeps beside its database: created once, readable by its owner only.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::rand;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use thiserror::Error;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    master_keys::{MasterKey, MasterKeys},
    regular_file::{LONGEST_FILE, open_regular, read_up_to},
};

/// Why the key file cannot be used.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// There is no such file. A new key would not fit what an existing database was made with.
    #[error("the key file {} is missing: without its keys no password and no token of this database can be checked; restore the file from a backup, or give the keys in COUNTERSIGN_MASTER_KEYS (to start anew, move the database away)", path.display())]
    Missing {
        /// The key file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("the key file {} cannot be {action}: {error}", path.display())]
    Io {
        /// The key file.
        path: PathBuf,
        /// What was tried, as a participle.
        action: &'static str,
        /// What the system answered.
        #[source]
        error: io::Error,
    },
    /// Other users can read it.
    #[error("the key file {} is open to other users (mode {mode:04o}): chmod 600 it, or replace the keys if they may have been read", path.display())]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It does not hold master keys.
    #[error("the key file {} holds no usable keys: {wrong}", path.display())]
    Malformed {
        /// The key file.
        path: PathBuf,
        /// What is wrong, without any of its content.
        wrong: String,
    },
}

/// The keys in the file at `path`, which is created with one new key when it is missing.
pub(super) fn load_or_create(path: &Path) -> Result<MasterKeys, KeyFileError> {
    match load(path) {
        Err(KeyFileError::Missing { .. }) => {
            create(path).map_err(failed(path, "created"))?;
            // Read it back: if another process was faster, its key holds.
            load(path)
        }
        loaded => loaded,
    }
}

/// The keys in the file at `path`.
pub(super) fn load(path: &Path) -> Result<MasterKeys, KeyFileError> {
    let failed = failed(path, "read");
    let file = match open_regular(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let path = path.to_owned();
            return Err(KeyFileError::Missing { path });
        }
        Err(error) => return Err(failed(error)),
    };
    let mode = file.metadata().map_err(&failed)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    let bytes = Zeroizing::new(read_up_to(file, LONGEST_FILE).map_err(failed)?);
    let malformed = |wrong: String| KeyFileError::Malformed {
        path: path.to_owned(),
        wrong,
    };
    let text = str::from_utf8(&bytes).map_err(|_| malformed("it is not text".to_owned()))?;
    MasterKeys::parse(text).map_err(|refusal| malformed(refusal.wrong().to_owned()))
}

fn failed(path: &Path, action: &'static str) -> impl Fn(io::Error) -> KeyFileError {
    move |error| KeyFileError::Io {
        path: path.to_owned(),
        action,
        error,
    }
}

/// Makes the file appear under its name only when it is complete and on disk. A hard link, unlike a
/// rename, never replaces the file of a process that was faster.
fn create(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;

    let draft = directory.join(format!(".master.key.{}", Uuid::now_v7()));
    let linked = write_new_key(&draft).and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    let removed = fs::remove_file(&draft);
    linked.and(removed)?;
    File::open(directory)?.sync_all()
}

fn write_new_key(path: &Path) -> io::Result<()> {
    let mut key = Zeroizing::new([0; MasterKey::LENGTH]);
    rand::fill(key.as_mut_slice()).map_err(|_| io::Error::other("no random bytes available"))?;
    let encoded = Zeroizing::new(BASE64_STANDARD.encode(key.as_slice()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    for part in [b"v1:", encoded.as_bytes(), b"\n"] {
        file.write_all(part)?;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, sync::Barrier, thread};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn bytes(keys: &MasterKeys) -> [u8; 32] {
        *keys.active().key.expose()
    }

    #[test]
    fn the_file_is_created_once_and_only_its_owner_can_read_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("data/deep/master.key");
        let created = load_or_create(&path).unwrap();
        let loaded = load_or_create(&path).unwrap();
        assert_eq!(bytes(&created), bytes(&loaded));
        assert_ne!(bytes(&created), [0; 32]);
        assert_eq!(created.active().version, 1);
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "a draft was left"
        );
    }

    #[test]
    fn processes_that_start_at_the_same_time_agree_on_one_key() {
        const RACERS: usize = 16;
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("data/master.key");
        let start = Barrier::new(RACERS);
        let keys: Vec<_> = thread::scope(|scope| {
            let race = || {
                start.wait();
                bytes(&load_or_create(&path).unwrap())
            };
            let racers: Vec<_> = (0..RACERS).map(|_| scope.spawn(race)).collect();
            racers
                .into_iter()
                .map(|racer| racer.join().unwrap())
                .collect()
        });
        assert!(keys.iter().all(|key| key == &keys[0]));
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "a draft was left"
        );
    }

    #[test]
    fn a_missing_file_is_not_created_by_reading_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("data/master.key");
        assert!(matches!(load(&path), Err(KeyFileError::Missing { .. })));
        assert!(!path.parent().unwrap().exists());
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("master.key");
        load_or_create(&path).unwrap();
        for open in [0o640, 0o604, 0o620, 0o666] {
            fs::set_permissions(&path, fs::Permissions::from_mode(open)).unwrap();
            let message = load_or_create(&path).unwrap_err().to_string();
            assert!(
                message.contains(&format!("{open:04o}")) && message.contains("chmod 600"),
                "{message}"
            );
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_and_never_replaced() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("master.key");
        fs::write(&path, "v1:c2hvcnQ=").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let message = load_or_create(&path).unwrap_err().to_string();
        assert!(
            message.contains("master.key") && !message.contains("c2hv"),
            "{message}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "v1:c2hvcnQ=");

        let below_a_file = path.join("master.key");
        assert!(matches!(
            load_or_create(&below_a_file),
            Err(KeyFileError::Io { .. })
        ));

        let dangling = home.path().join("dangling");
        symlink(home.path().join("nowhere"), &dangling).unwrap();
        assert!(load_or_create(&dangling).is_err());
    }
}

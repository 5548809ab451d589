//! Whether the files and folders that a configuration names can be used. Looks only: creates nothing.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};

use super::{
    database_url::DatabaseUrl,
    key_file::KeyFileError,
    key_source::MasterKeySource,
    mail::MailRoute,
    problems::{ConfigError, Problems},
    refusal::Refusal,
    regular_file::{demand_regular, open_regular},
    types::Config,
};

impl Config {
    /// Checks that the SQLite file, the key file and the folder of mails can be used, or created where they are missing.
    ///
    /// # Errors
    /// Every file that cannot, under the name of its variable.
    pub fn check_files(&self) -> Result<(), ConfigError> {
        let mut problems = Problems::default();
        if let DatabaseUrl::Sqlite(path) = &self.database.url
            && let Err(refusal) = usable_database(path)
        {
            problems.add("COUNTERSIGN_DATABASE_URL", refusal);
        }
        self.check_key_file(&mut problems);
        if let MailRoute::Folder(folder) = &self.mail.route
            && let Err(refusal) = usable_folder(folder)
        {
            problems.add("COUNTERSIGN_MAIL_FOLDER", refusal);
        }
        problems.into_result(())
    }

    /// Checks that the key file can be used, or created where it is missing.
    ///
    /// # Errors
    /// It cannot, under the name of its variable.
    pub fn check_master_keys(&self) -> Result<(), ConfigError> {
        let mut problems = Problems::default();
        self.check_key_file(&mut problems);
        problems.into_result(())
    }

    fn check_key_file(&self, problems: &mut Problems) {
        let MasterKeySource::KeyFile(path) = &self.master_keys else {
            return;
        };
        let usable = match self.master_keys.load() {
            Ok(_) => Ok(()),
            Err(KeyFileError::Missing { .. }) => {
                creatable(path).map_err(|refusal| refusal.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(wrong) = usable {
            problems.add("COUNTERSIGN_MASTER_KEYS", wrong);
        }
    }
}

fn usable_database(path: &Path) -> Result<(), Refusal> {
    let found = demand_regular(path).and_then(|()| fs::metadata(path));
    match found {
        Ok(file) if file.nlink() > 1 => Err(Refusal::new(
            format!("{} has other names (hard links)", path.display()),
            "delete the other names, or give them a copy: SQLite damages a file that is used under two",
        )),
        Ok(_) => {
            permitted(path, Access::READ_OK | Access::WRITE_OK)?;
            is_database(path)?;
            // SQLite creates files of its own beside it.
            permitted(folder_of(path), Access::WRITE_OK | Access::EXEC_OK)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => creatable(path),
        Err(error) => Err(unusable(path, &error)),
    }
}

/// Whether SQLite made this file, or nobody has written to it yet ("Database File Format", section 1.3).
fn is_database(path: &Path) -> Result<(), Refusal> {
    const MAGIC: &[u8] = b"SQLite format 3\0";
    let mut head = Vec::new();
    let opened = open_regular(path).map(|file| file.take(MAGIC.len() as u64));
    let read = opened.and_then(|mut file| file.read_to_end(&mut head));
    read.map_err(|error| unusable(path, &error))?;
    match head.is_empty() || head == MAGIC {
        true => Ok(()),
        false => Err(Refusal::new(
            format!("{} is not a SQLite database", path.display()),
            "use the path of a database, or of a file that does not exist yet",
        )),
    }
}

/// Whether files can be created in this folder, which may be missing.
fn usable_folder(folder: &Path) -> Result<(), Refusal> {
    match folder.is_dir() {
        true => permitted(folder, Access::WRITE_OK | Access::EXEC_OK),
        false if folder.exists() => Err(Refusal::new(
            format!("{} is not a folder", folder.display()),
            "use the path of a folder",
        )),
        false => creatable(folder),
    }
}

/// Whether a file could be created here, with the folders that are missing.
fn creatable(path: &Path) -> Result<(), Refusal> {
    let mut folder = folder_of(path);
    while !folder.exists() && folder != folder_of(folder) {
        folder = folder_of(folder);
    }
    if !folder.is_dir() {
        let error = io::Error::from(io::ErrorKind::NotADirectory);
        return Err(unusable(folder, &error));
    }
    permitted(folder, Access::WRITE_OK | Access::EXEC_OK)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

fn permitted(path: &Path, rights: Access) -> Result<(), Refusal> {
    access(path, rights).map_err(|error| unusable(path, &error.into()))
}

fn unusable(path: &Path, error: &io::Error) -> Refusal {
    let path = std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
    Refusal::new(
        format!("{} cannot be used: {error}", path.display()),
        "use a path that this user can read and write",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_fine_where_it_can_be_created() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(usable_database(&home.path().join("a/b/c.db")), Ok(()));
        fs::write(home.path().join("file"), "").unwrap();
        assert_eq!(usable_database(&home.path().join("file")), Ok(()));
        assert!(usable_database(&home.path().join("file/c.db")).is_err());
        assert!(usable_database(home.path()).is_err());
        assert!(creatable(Path::new("master.key")).is_ok());
        assert!(!home.path().join("a").exists(), "a check creates nothing");
    }
}

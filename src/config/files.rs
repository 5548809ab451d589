//! Whether the files and folders that a configuration names can be used. Looks only: creates nothing.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};

use super::{
    database_url::DatabaseUrl,
    key_file::KeyFileError,
    key_source::MasterKeySource,
    problems::{ConfigError, Problems},
    refusal::Refusal,
    types::Config,
};

impl Config {
    /// Checks that the SQLite file and the key file can be used, or created where they are missing.
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
        if let MasterKeySource::KeyFile(path) = &self.master_keys {
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
        problems.into_result(())
    }
}

fn usable_database(path: &Path) -> Result<(), Refusal> {
    match fs::metadata(path) {
        Ok(file) if !file.is_file() => Err(Refusal::new(
            format!("{} is not a file", path.display()),
            "use the path of a file",
        )),
        Ok(_) => {
            permitted(path, Access::READ_OK | Access::WRITE_OK)?;
            // SQLite creates files of its own beside it.
            permitted(folder_of(path), Access::WRITE_OK | Access::EXEC_OK)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => creatable(path),
        Err(error) => Err(unusable(path, &error)),
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

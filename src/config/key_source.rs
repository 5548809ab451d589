//! Where the master keys come from: a variable, a file that the operator provides, or the key file of development.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{
    database_url::DatabaseUrl,
    fill::Given,
    key_file::{self, KeyFileError},
    master_keys::{HINT, MasterKeys},
    problems::Problems,
    profile::Profile,
    refusal::Refusal,
    regular_file::read_regular_text,
};

/// Where the master keys come from.
#[derive(Clone, Debug)]
pub enum MasterKeySource {
    /// They were given.
    Given(MasterKeys),
    /// They are in this file, which the first start creates.
    KeyFile(PathBuf),
}

impl MasterKeySource {
    /// The keys, read from the key file if they were not given. Creates nothing.
    ///
    /// # Errors
    /// [`KeyFileError::Missing`], or the file cannot be read, others may read it, or it holds no keys.
    pub fn load(&self) -> Result<MasterKeys, KeyFileError> {
        match self {
            Self::Given(keys) => Ok(keys.clone()),
            Self::KeyFile(path) => key_file::load(path),
        }
    }

    /// The same, but creates a missing key file with one new key. Processes that start at the same
    /// time agree on one file. Only for a database that was never used with another key.
    ///
    /// # Errors
    /// As [`MasterKeySource::load`], or the file cannot be created.
    pub fn load_or_create(&self) -> Result<MasterKeys, KeyFileError> {
        match self {
            Self::Given(keys) => Ok(keys.clone()),
            Self::KeyFile(path) => key_file::load_or_create(path),
        }
    }

    /// Decides by what is given, and else by the rules of `profile`.
    pub(super) fn read(
        profile: Profile,
        database: &DatabaseUrl,
        given: &Given,
        problems: &mut Problems,
    ) -> Self {
        const LIST: &str = "COUNTERSIGN_MASTER_KEYS";
        const FILE: &str = "COUNTERSIGN_MASTER_KEYS_FILE";
        let from_list = given.values.master_keys.clone();
        let from_file = given.values.master_keys_file.as_deref().and_then(|path| {
            let keys = read_file(path);
            keys.map_err(|refusal| problems.add(FILE, refusal)).ok()
        });
        if given.has(LIST) && given.has(FILE) {
            let wrong = format!("{LIST} is given as well");
            problems.add(FILE, Refusal::new(wrong, "use only one of the two"));
        }
        let must_be_given = match (profile, database) {
            (Profile::Development, _) | (Profile::Test, DatabaseUrl::Sqlite(_)) => false,
            (Profile::Production, _) | (Profile::Test, DatabaseUrl::Postgres(_)) => true,
        };
        if must_be_given && !given.has(LIST) && !given.has(FILE) {
            let hint = format!("{HINT}, here or in the file that {FILE} names");
            let wrong = "it is not set, and this profile creates no keys";
            problems.add(LIST, Refusal::new(wrong, hint));
        }
        from_list
            .or(from_file)
            .map_or_else(|| Self::KeyFile(key_file_for(database)), Self::Given)
    }
}

/// The key file of a database: beside it, or under `data/` when it is not a file of ours.
fn key_file_for(database: &DatabaseUrl) -> PathBuf {
    match database {
        DatabaseUrl::Sqlite(path) => path.with_file_name("master.key"),
        DatabaseUrl::Postgres(_) => PathBuf::from("data/master.key"),
    }
}

/// Keys from a file that the operator provides. Its mode is not checked: Docker and
/// Kubernetes mount secrets that a group or everybody can read.
fn read_file(path: &Path) -> Result<MasterKeys, Refusal> {
    let text = read_regular_text(path)
        .map(Zeroizing::new)
        .map_err(|error| {
            Refusal::new(
                format!("{} cannot be read ({error})", path.display()),
                "use the path of a readable text file",
            )
        })?;
    MasterKeys::parse(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_file_is_in_the_folder_of_the_database() {
        let beside = |path: &str| key_file_for(&DatabaseUrl::Sqlite(PathBuf::from(path)));
        assert_eq!(beside("data/countersign.db"), Path::new("data/master.key"));
        assert_eq!(
            beside("/var/lib/c/x.db"),
            Path::new("/var/lib/c/master.key")
        );
        assert_eq!(beside("x.db"), Path::new("master.key"));
    }
}

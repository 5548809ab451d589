//! The master keys: how they are written down, and where they come from.

use std::path::{Path, PathBuf};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

use super::{
    Profile,
    database_url::DatabaseUrl,
    key_file::{self, KeyFileError},
    parse::Refusal,
    problems::Problems,
    variables::Inputs,
};
use crate::secret::Secret;

/// A key from which the working keys are derived.
#[derive(Clone, Debug)]
pub struct MasterKey {
    /// Tells it from its predecessors; what was made with it carries this number. Never 0.
    pub version: u8,
    /// 32 bytes from a cryptographic random source.
    pub key: Secret<[u8; MasterKey::LENGTH]>,
}

impl MasterKey {
    /// Bytes in a key.
    pub const LENGTH: usize = 32;
}

/// One or more master keys with distinct versions. New things are made with the first, the active one.
#[derive(Clone, Debug)]
pub struct MasterKeys(Vec<MasterKey>);

impl MasterKeys {
    /// The key that new things are made with.
    pub fn active(&self) -> &MasterKey {
        &self.0[0]
    }

    /// All of them, the active one first; never empty.
    pub fn as_slice(&self) -> &[MasterKey] {
        &self.0
    }

    /// Reads `v1:BASE64` parts (standard or URL-safe, padded or not), separated by commas or line
    /// ends; no part of the text is repeated in a refusal.
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        let mut keys: Vec<MasterKey> = Vec::new();
        let parts = text
            .split([',', '\n'])
            .map(str::trim)
            .filter(|part| !part.is_empty());
        for (index, part) in parts.enumerate() {
            let refuse = |wrong: &str| Refusal::new(format!("key {} {wrong}", index + 1), ALLOWED);
            let (version, encoded) = part
                .strip_prefix('v')
                .and_then(|rest| rest.split_once(':'))
                .ok_or_else(|| refuse("does not begin with a version such as v1:"))?;
            let version = version
                .parse()
                .ok()
                .filter(|version| *version > 0)
                .ok_or_else(|| refuse("has a version that is not a number from 1 to 255"))?;
            let key = decode(encoded).ok_or_else(|| refuse("is not 32 bytes in base64"))?;
            if keys.iter().any(|other| other.version == version) {
                return Err(refuse("has the version of an earlier one"));
            }
            keys.push(MasterKey { version, key });
        }
        if keys.is_empty() {
            return Err(Refusal::new("there is no key in it", ALLOWED));
        }
        Ok(Self(keys))
    }
}

const ALLOWED: &str = "a list such as v2:BASE64,v1:BASE64, the active key first, each version \
                       once, each key 32 random bytes (openssl rand -base64 32)";

fn decode(encoded: &str) -> Option<Secret<[u8; MasterKey::LENGTH]>> {
    const EITHER_PADDING: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if encoded.contains(['-', '_']) {
        &alphabet::URL_SAFE
    } else {
        &alphabet::STANDARD
    };
    let bytes = GeneralPurpose::new(alphabet, EITHER_PADDING)
        .decode(encoded)
        .ok()?;
    let bytes = Zeroizing::new(bytes);
    Some(Secret::new(bytes.as_slice().try_into().ok()?))
}

/// Where the master keys come from.
#[derive(Clone, Debug)]
pub enum MasterKeySource {
    /// They were given.
    Given(MasterKeys),
    /// They stand in this file, which is created when it is missing.
    KeyFile(PathBuf),
}

impl MasterKeySource {
    /// The keys; in the second case reads the file, or creates it with one new key. Processes that
    /// start at once agree on one file.
    ///
    /// # Errors
    /// The file cannot be read or created, others may read it, or it holds no keys.
    pub fn load(&self) -> Result<MasterKeys, KeyFileError> {
        match self {
            Self::Given(keys) => Ok(keys.clone()),
            Self::KeyFile(path) => key_file::load_or_create(path),
        }
    }

    /// Decides by what is given, and else by the rules of `profile`.
    pub(super) fn read(
        profile: Profile,
        database: &DatabaseUrl,
        inputs: &Inputs,
        problems: &mut Problems,
    ) -> Self {
        let (listed, file) = (&inputs.master_keys, &inputs.master_keys_file);
        let from_list = problems.read_if_given(listed, MasterKeys::parse);
        let from_file = problems.read_if_given(file, |path| parse_file(Path::new(path)));
        let given = listed.text.is_some() || file.text.is_some();
        if listed.text.is_some() && file.text.is_some() {
            let wrong = "COUNTERSIGN_MASTER_KEYS is given as well";
            problems.refuse(file, Refusal::new(wrong, "only one of the two"));
        }
        let must_be_given = match (profile, database) {
            (Profile::Development, _) | (Profile::Test, DatabaseUrl::Sqlite(_)) => false,
            (Profile::Production, _) | (Profile::Test, DatabaseUrl::Postgres(_)) => true,
        };
        if must_be_given && !given {
            let allowed = format!("{ALLOWED}, here or in COUNTERSIGN_MASTER_KEYS_FILE");
            let wrong = "it is not set, and this profile creates no keys";
            problems.refuse(listed, Refusal::new(wrong, allowed));
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

/// Keys from a file that the operator provides. Its mode is the operator's affair: Docker and
/// Kubernetes mount secrets readable by a group or by all.
fn parse_file(path: &Path) -> Result<MasterKeys, Refusal> {
    let text = std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|error| {
            Refusal::new(
                format!("{} cannot be read ({error})", path.display()),
                "the path of a readable text file",
            )
        })?;
    MasterKeys::parse(&text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 32 bytes of 0xff, whose encodings differ between the alphabets.
    const STANDARD: &str = "//////////////////////////////////////////8=";
    const URL_SAFE: &str = "__________________________________________8";

    #[test]
    fn keys_are_read_in_either_alphabet_and_separated_either_way() {
        for text in [
            format!("v2:{STANDARD},v1:{URL_SAFE}"),
            format!("\n v2:{URL_SAFE}= \r\nv1:{STANDARD}\n\n"),
            format!("v2:{STANDARD} , v1:{STANDARD},"),
        ] {
            let keys = MasterKeys::parse(&text).unwrap();
            assert_eq!(keys.active().version, 2);
            assert_eq!(keys.as_slice().len(), 2);
            assert_eq!(keys.as_slice()[1].version, 1);
            assert_eq!(keys.as_slice()[1].key.expose(), &[0xff; 32]);
        }
    }

    #[test]
    fn malformed_keys_are_refused_and_never_repeated() {
        for (text, wrong) in [
            (String::new(), "there is no key"),
            (",,".to_owned(), "there is no key"),
            (STANDARD.to_owned(), "key 1 does not begin with a version"),
            (format!("v0:{STANDARD}"), "key 1 has a version that is not"),
            (
                format!("v256:{STANDARD}"),
                "key 1 has a version that is not",
            ),
            (format!("v1:{STANDARD}A"), "key 1 is not 32 bytes"),
            ("v1:c2hvcnQ=".to_owned(), "key 1 is not 32 bytes"),
            (format!("v1:/_{}", &STANDARD[2..]), "key 1 is not 32 bytes"),
            (
                format!("v1:{STANDARD},v1:{URL_SAFE}"),
                "key 2 has the version of an earlier",
            ),
        ] {
            let refusal = MasterKeys::parse(&text).unwrap_err();
            assert!(refusal.wrong.starts_with(wrong), "{refusal:?}");
            assert!(!format!("{refusal:?}").contains("////"), "{refusal:?}");
            assert!(!format!("{refusal:?}").contains("c2hv"), "{refusal:?}");
        }
    }

    #[test]
    fn debug_is_redacted() {
        let keys = MasterKeys::parse(&format!("v1:{STANDARD}")).unwrap();
        let shown = format!("{:?}", MasterKeySource::Given(keys));
        assert!(
            shown.contains("[redacted]") && !shown.contains("255"),
            "{shown}"
        );
    }

    #[test]
    fn the_key_file_stands_beside_the_database() {
        let beside = |path: &str| key_file_for(&DatabaseUrl::Sqlite(PathBuf::from(path)));
        assert_eq!(beside("data/countersign.db"), Path::new("data/master.key"));
        assert_eq!(
            beside("/var/lib/c/x.db"),
            Path::new("/var/lib/c/master.key")
        );
        assert_eq!(beside("x.db"), Path::new("master.key"));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in any::<String>(), tail in "v?[0-9]{0,4}:?[A-Za-z0-9+/_=-]{0,48}") {
            let _ = (MasterKeys::parse(&text), MasterKeys::parse(&tail));
        }

        #[test]
        fn every_key_comes_back(bytes in any::<[u8; 32]>(), version in 1..=u8::MAX) {
            let encoded = base64::prelude::BASE64_STANDARD.encode(bytes);
            let keys = MasterKeys::parse(&format!("v{version}:{encoded}")).unwrap();
            prop_assert_eq!(keys.active().version, version);
            prop_assert_eq!(keys.active().key.expose(), &bytes);
        }
    }
}

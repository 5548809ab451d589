//! The master keys, and the text form in which operators give them.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::refusal::Refusal;
use crate::secret::Secret;

/// A key from which the working keys are derived.
#[derive(Clone, Debug)]
pub struct MasterKey {
    /// Its number, never 0; everything made with the key carries it.
    pub version: u8,
    /// 32 bytes from a cryptographic random source.
    pub key: Secret<[u8; MasterKey::LENGTH]>,
}

impl MasterKey {
    /// Bytes in a key.
    pub const LENGTH: usize = 32;
}

/// One or more master keys with distinct versions. The first is active: it protects everything new.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct MasterKeys(Vec<MasterKey>);

impl MasterKeys {
    /// The key that protects everything new.
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
            let refuse = |wrong: &str| Refusal::new(format!("key {} {wrong}", index + 1), HINT);
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
            return Err(Refusal::new("there is no key in it", HINT));
        }
        Ok(Self(keys))
    }
}

pub(super) const HINT: &str = "use a list such as v2:BASE64,v1:BASE64, the active key first, each version \
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

impl TryFrom<String> for MasterKeys {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        Self::parse(&Zeroizing::new(text))
    }
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
            assert!(refusal.wrong().starts_with(wrong), "{refusal:?}");
            assert!(!format!("{refusal:?}").contains("////"), "{refusal:?}");
            assert!(!format!("{refusal:?}").contains("c2hv"), "{refusal:?}");
        }
    }

    #[test]
    fn debug_is_redacted() {
        let keys = MasterKeys::parse(&format!("v1:{STANDARD}")).unwrap();
        let shown = format!("{keys:?}");
        assert!(
            shown.contains("[redacted]") && !shown.contains("255"),
            "{shown}"
        );
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

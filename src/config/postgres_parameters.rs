//! The query of a `postgres://` URL as a list of parameters, and readers for single values.

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

/// Why a URL is refused: what is wrong, without any part of the URL that may be secret.
pub(super) type Wrong = String;

/// The parameters of the query: key, value as it stands in the URL, value decoded.
pub(super) struct Parameters(pub Vec<(String, String, Zeroizing<String>)>);

impl Parameters {
    pub fn read(query: &str) -> Result<Self, Wrong> {
        let mut read: Vec<(String, String, Zeroizing<String>)> = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (key, encoded) = part.split_once('=').ok_or("a parameter has no value")?;
            if read.iter().any(|(before, ..)| before == key) {
                return Err(format!("the parameter {key} is given twice"));
            }
            let decoded = percent_decode_str(encoded).decode_utf8();
            let value = decoded.map_err(|_| format!("the value of {key} is not UTF-8"))?;
            let value = Zeroizing::new(value.into_owned());
            read.push((key.to_owned(), encoded.to_owned(), value));
        }
        Ok(Self(read))
    }
}

/// One of a few words.
pub(super) fn choice<T: Copy>(key: &str, value: &str, choices: &[(&str, T)]) -> Result<T, Wrong> {
    let found = choices.iter().find(|(word, _)| *word == value);
    found.map(|(_, chosen)| *chosen).ok_or_else(|| {
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        format!(
            "the value of {key} is not supported (supported: {})",
            words.join(", ")
        )
    })
}

/// A whole number: seconds, milliseconds or a count.
pub(super) fn number(key: &str, value: &str) -> Result<u64, Wrong> {
    let parsed = value.parse().ok().filter(|number| *number <= 86_400_000);
    parsed.ok_or_else(|| format!("the value of {key} is no whole number from 0 to 86400000"))
}

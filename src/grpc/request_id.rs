//! The id of a request: in its response, in log lines and in the details of a status.

use http::{Extensions, HeaderValue};
use uuid::fmt::Hyphenated;

use crate::{clock::Timestamp, domain::uuid_v7};

const MAX_LENGTH: usize = 128;

/// The id of a request: the caller's, or a new `UUIDv7`. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Id);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Id {
    /// Stored inline: nearly every request has one of these, and its copies cost no allocation.
    Generated([u8; Hyphenated::LENGTH]),
    /// The caller's.
    Chosen(HeaderValue),
    /// The request did not pass the layer.
    None,
}

impl RequestId {
    /// A new id.
    pub fn generate(now: Timestamp) -> Self {
        let mut text = [0; Hyphenated::LENGTH];
        uuid_v7(now).as_hyphenated().encode_lower(&mut text);
        Self(Id::Generated(text))
    }

    /// The id of the request with these extensions; `-` when it did not pass the layer.
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or(Self(Id::None))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Id::Generated(text) => str::from_utf8(text).unwrap_or_default(),
            Id::Chosen(value) => value.to_str().unwrap_or_default(),
            Id::None => "-",
        }
    }

    /// The id in a header of this value, by the same rule as for the caller's own.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        Self::chosen(&HeaderValue::from_str(text).ok()?)
    }

    /// The id that the caller has chosen, if it is 1 to 128 visible ASCII characters.
    pub(super) fn chosen(value: &HeaderValue) -> Option<Self> {
        let bytes = value.as_bytes();
        let acceptable =
            (1..=MAX_LENGTH).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
        acceptable.then(|| Self(Id::Chosen(value.clone())))
    }

    /// The header of the response. A sensitive header is not entered into HPACK's table (RFC 7541 section
    /// 7.1.3), where a value that never comes again would only evict useful ones.
    pub(super) fn into_header(self) -> HeaderValue {
        let mut value = match self.0 {
            Id::Generated(text) => HeaderValue::from_bytes(&text).expect("a UUID is visible ASCII"),
            Id::Chosen(value) => value,
            Id::None => HeaderValue::from_static("-"),
        };
        value.set_sensitive(true);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_1_to_128_visible_ascii_characters_are_accepted() {
        let longest = "x".repeat(128);
        for good in ["a", "!~", "0190163d-8694-739b-aea5-966c26f8ad91", &longest] {
            let value = HeaderValue::from_str(good).unwrap();
            assert_eq!(RequestId::chosen(&value).unwrap().as_str(), good);
        }
        let too_long = "x".repeat(129);
        for bad in ["", " ", "a b", "a\tb", "é", &too_long] {
            let value = HeaderValue::from_bytes(bad.as_bytes()).unwrap();
            assert_eq!(RequestId::chosen(&value), None, "{bad:?}");
        }
    }

    #[test]
    fn a_new_id_is_a_uuid_of_version_7() {
        let id = RequestId::generate(Timestamp::from_seconds(1_700_000_000));
        let uuid = uuid::Uuid::parse_str(id.as_str()).unwrap();
        assert_eq!(uuid.get_version_num(), 7);
    }
}

//! The id of a request: in its response, in log lines and in the details of a status.

use http::{Extensions, HeaderValue};
use tower_http::request_id::RequestId as HeaderId;
use uuid::fmt::Hyphenated;

use crate::{clock::Timestamp, domain::uuid_v7};

const MAX_LENGTH: usize = 128;

/// The id of a request: the caller's, or a new `UUIDv7`. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// A new id.
    pub fn generate(now: Timestamp) -> Self {
        let mut text = [0; Hyphenated::LENGTH];
        let text = uuid_v7(now).as_hyphenated().encode_lower(&mut text);
        Self::new(HeaderValue::from_str(text).expect("a UUID is visible ASCII"))
    }

    /// The id of the request with these extensions; `-` when it did not pass the layer.
    pub fn of(extensions: &Extensions) -> Self {
        let id = extensions.get().map(HeaderId::header_value);
        Self(id.map_or(HeaderValue::from_static("-"), HeaderValue::clone))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
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
        acceptable.then(|| Self::new(value.clone()))
    }

    /// Its header.
    pub(super) fn into_header(self) -> HeaderValue {
        self.0
    }

    /// A sensitive header is not entered into HPACK's table (RFC 7541 section 7.1.3), where a value that
    /// never comes again would only evict useful ones.
    fn new(mut value: HeaderValue) -> Self {
        value.set_sensitive(true);
        Self(value)
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

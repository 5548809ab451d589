//! A JSON document that clients may cache and revalidate (RFC 9110 section 13, conditional requests).

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, StatusCode, header};

/// RFC 7517 section 8.5 also registers `application/jwk-set+json`. Every library accepts `application/json`, all large
/// issuers send it, and some gateways refuse the other type.
const JSON: &str = "application/json";

/// A JSON document and its validator.
#[derive(Clone, Debug)]
pub(super) struct Document {
    /// The body.
    pub json: String,
    /// A strong validator (RFC 9110 section 8.8.3), with its quotes.
    pub etag: String,
}

impl Document {
    /// The validator is a hash of the content, so replicas with the same content have the same validator.
    pub fn new(json: String) -> Self {
        let hash = digest(&SHA256, json.as_bytes());
        let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(hash));
        Self { json, etag }
    }

    /// Answers a conditional request: the document, or 304 when the client's copy is current.
    pub fn answer(self, request: &HeaderMap, max_age: Duration) -> Response {
        let cache_control = format!("public, max-age={}", max_age.as_secs());
        let is_current = has_current(request, &self.etag);
        let cache_headers = [
            (header::ETAG, self.etag),
            (header::CACHE_CONTROL, cache_control),
        ];
        if is_current {
            return (StatusCode::NOT_MODIFIED, cache_headers).into_response();
        }
        let content_type = [(header::CONTENT_TYPE, JSON)];
        (cache_headers, content_type, Body::from(self.json)).into_response()
    }
}

/// Whether `If-None-Match` contains `etag`, by weak comparison (RFC 9110 section 13.1.2): a proxy that compresses
/// responses marks the validator as weak.
fn has_current(request: &HeaderMap, etag: &str) -> bool {
    let lists = request.get_all(header::IF_NONE_MATCH).into_iter();
    // Our validators contain no comma, so splitting at commas never splits one of them.
    let mut tags = lists
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(value: &str) -> bool {
        let mut request = HeaderMap::new();
        request.insert(header::IF_NONE_MATCH, value.parse().unwrap());
        has_current(&request, "\"abc\"")
    }

    #[test]
    fn the_current_validator_is_recognised_in_every_form_of_if_none_match() {
        for value in [
            "\"abc\"",
            "W/\"abc\"",
            "\"x\", \"abc\"",
            "\"x\",W/\"abc\"",
            "*",
        ] {
            assert!(has(value), "{value}");
        }
        for value in [
            "",
            "abc",
            "\"ab\"",
            "\"abc",
            "W/abc",
            "\"x\", \"y\"",
            "w/\"abc\"",
        ] {
            assert!(!has(value), "{value}");
        }
        assert!(!has_current(&HeaderMap::new(), "\"abc\""));
    }

    #[test]
    fn a_full_and_a_not_modified_response_have_validator_and_max_age() {
        let document = Document::new("{}".to_owned());
        let etag = document.etag.clone();
        let max_age = Duration::from_millis(1_999);
        let mut request = HeaderMap::new();
        let full = document.clone().answer(&request, max_age);
        assert_eq!(full.status(), StatusCode::OK);
        assert_eq!(full.headers()[header::CONTENT_TYPE], JSON);
        request.insert(header::IF_NONE_MATCH, etag.parse().unwrap());
        let same = document.answer(&request, max_age);
        assert_eq!(same.status(), StatusCode::NOT_MODIFIED);
        assert!(!same.headers().contains_key(header::CONTENT_TYPE));
        for response in [full, same] {
            assert_eq!(response.headers()[header::ETAG], etag);
            assert_eq!(
                response.headers()[header::CACHE_CONTROL],
                "public, max-age=1"
            );
        }
    }
}

//! A document that anybody may keep for a while, and ask whether it is still the same.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, StatusCode, header};

/// RFC 7517 section 8.5 registers `application/jwk-set+json` as well. Every library reads the plain
/// name, and all large issuers send it; some gateways refuse the other one.
const JSON: &str = "application/json";

/// A JSON document and its name.
#[derive(Clone, Debug)]
pub(super) struct Document {
    /// The text.
    pub json: String,
    /// A strong validator (RFC 9110 section 8.8.3), quotes included.
    pub etag: String,
}

impl Document {
    /// Replicas that say the same give it the same validator.
    pub fn named_after_its_content(json: String) -> Self {
        let hash = digest(&SHA256, json.as_bytes());
        let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(hash));
        Self { json, etag }
    }

    /// Answers a conditional request: with the document, or that the asker has it.
    pub fn answer(self, request: &HeaderMap, max_age: Duration) -> Response {
        let cache_control = format!("public, max-age={}", max_age.as_secs());
        let has_it = has_current(request, &self.etag);
        let for_both = [
            (header::ETAG, self.etag),
            (header::CACHE_CONTROL, cache_control),
        ];
        if has_it {
            return (StatusCode::NOT_MODIFIED, for_both).into_response();
        }
        let kind = [(header::CONTENT_TYPE, JSON)];
        (for_both, kind, Body::from(self.json)).into_response()
    }
}

/// Whether `If-None-Match` names `etag`. The comparison is the weak one (RFC 9110 section 13.1.2): a
/// proxy that compresses on the way marks our validator as weak.
fn has_current(request: &HeaderMap, etag: &str) -> bool {
    let lists = request.get_all(header::IF_NONE_MATCH).into_iter();
    // Our validators hold no comma, so no list is torn apart inside one that could match.
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
    fn the_current_validator_is_found_in_every_form() {
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
    fn an_answer_tells_the_validator_and_how_long_it_holds() {
        let document = Document::named_after_its_content("{}".to_owned());
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

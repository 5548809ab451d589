//! A document that anybody may keep for a while, and ask whether it is still the same.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};

/// RFC 7517 section 8.5 registers `application/jwk-set+json` as well. Every library reads the plain
/// name, and all large issuers send it; some gateways refuse the other one.
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A JSON document with what a cache needs to know of it.
#[derive(Clone, Debug)]
pub(super) struct Document {
    /// The text.
    pub json: String,
    /// A strong validator (RFC 9110 section 8.8.3), quotes included.
    pub etag: HeaderValue,
    /// `Cache-Control`.
    pub cache_control: HeaderValue,
}

impl Document {
    /// Answers a conditional request: the document, or that the asker has it.
    pub fn answer(self, request: &HeaderMap) -> Response {
        let has_it = has_current(request, &self.etag);
        let mut response = if has_it {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            Body::from(self.json).into_response()
        };
        let headers = response.headers_mut();
        headers.insert(header::ETAG, self.etag);
        headers.insert(header::CACHE_CONTROL, self.cache_control);
        if !has_it {
            headers.insert(header::CONTENT_TYPE, JSON);
        }
        response
    }
}

/// Whether `If-None-Match` names `etag`. The comparison is the weak one (RFC 9110 section 13.1.2): a
/// proxy that compresses on the way marks our validator as weak.
fn has_current(request: &HeaderMap, etag: &HeaderValue) -> bool {
    let lists = request.get_all(header::IF_NONE_MATCH).into_iter();
    // Our validators hold no comma, so no list is torn apart inside one that could match.
    let mut tags = lists
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(value: &str) -> bool {
        let mut request = HeaderMap::new();
        request.insert(header::IF_NONE_MATCH, value.parse().unwrap());
        has_current(&request, &HeaderValue::from_static("\"abc\""))
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
        assert!(!has_current(
            &HeaderMap::new(),
            &HeaderValue::from_static("\"abc\"")
        ));
    }

    #[test]
    fn an_answer_tells_the_validator_and_how_long_it_holds() {
        let document = Document {
            json: "{}".to_owned(),
            etag: HeaderValue::from_static("\"abc\""),
            cache_control: HeaderValue::from_static("public, max-age=1"),
        };
        let mut request = HeaderMap::new();
        let full = document.clone().answer(&request);
        assert_eq!(full.status(), StatusCode::OK);
        assert_eq!(full.headers()[header::CONTENT_TYPE], JSON);
        request.insert(header::IF_NONE_MATCH, document.etag.clone());
        let same = document.answer(&request);
        assert_eq!(same.status(), StatusCode::NOT_MODIFIED);
        assert!(!same.headers().contains_key(header::CONTENT_TYPE));
        for response in [full, same] {
            assert_eq!(response.headers()[header::ETAG], "\"abc\"");
            assert_eq!(
                response.headers()[header::CACHE_CONTROL],
                "public, max-age=1"
            );
        }
    }
}

//! Refusals as HTTP statuses (RFC 6750 section 3, RFC 9470 section 3).

use http::{
    HeaderValue, Response, StatusCode,
    header::{RETRY_AFTER, WWW_AUTHENTICATE},
};

use super::Refusal;
use crate::VerifyError;

pub(super) fn response<B: Default>(refusal: &Refusal) -> Response<B> {
    let (status, error) = match refusal.error {
        VerifyError::TokenMissing => (StatusCode::UNAUTHORIZED, None),
        VerifyError::StepUpRequired => (
            StatusCode::UNAUTHORIZED,
            Some("insufficient_user_authentication"),
        ),
        VerifyError::InsufficientRole => (StatusCode::FORBIDDEN, Some("insufficient_scope")),
        error if error.is_unavailable() => (StatusCode::SERVICE_UNAVAILABLE, None),
        _ => (StatusCode::UNAUTHORIZED, Some("invalid_token")),
    };
    let mut response = Response::new(B::default());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    } else {
        headers.insert(WWW_AUTHENTICATE, challenge(refusal, error));
    }
    response
}

/// Without a token the challenge holds no error (RFC 6750 section 3.1).
fn challenge(refusal: &Refusal, error: Option<&str>) -> HeaderValue {
    let Some(error) = error else {
        return HeaderValue::from_static("Bearer");
    };
    let mut text = format!(
        "Bearer error=\"{error}\", error_description=\"{}\"",
        refusal.error
    );
    for (name, value) in refusal.step_up() {
        text.extend([", ", name, "=\"", &quoted(&value), "\""]);
    }
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("Bearer"))
}

/// What may stand in a quoted string as it is; the rest is left out.
fn quoted(value: &str) -> String {
    let is_plain = |c: &char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\');
    value.chars().filter(is_plain).collect()
}

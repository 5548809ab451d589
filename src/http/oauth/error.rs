//! Errors of the OAuth endpoints (RFC 6749 section 5.2), in the form that client libraries read.
//!
//! What a caller must tell apart is in `error` and `error_description` of a 4xx: libraries read neither out of a 5xx, which
//! therefore says only "later".

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::json;

/// A failed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OAuthError {
    pub(super) status: StatusCode,
    /// The member `error`.
    pub(super) code: &'static str,
    /// The member `error_description`: a constant sentence.
    pub(super) description: &'static str,
    /// Whether the client is asked for another `Authorization` header.
    pub(super) challenge: Option<&'static str>,
    /// When to ask again.
    pub(super) retry_after: Option<Duration>,
}

/// For a client that came with HTTP Basic (RFC 6749 section 5.2). Without Basic there is none: openid-client would read the
/// challenge and not the error.
const BASIC: &str = "Basic realm=\"countersign\"";
/// RFC 6750 section 3.
const BEARER: &str = "Bearer realm=\"countersign\", error=\"invalid_token\"";

impl OAuthError {
    const fn new(status: StatusCode, code: &'static str, description: &'static str) -> Self {
        Self {
            status,
            code,
            description,
            challenge: None,
            retry_after: None,
        }
    }

    pub(super) const fn invalid_request(description: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", description)
    }

    /// `invalid_request` for a parameter that is not there.
    pub(super) fn missing(name: &'static str) -> Self {
        Self::invalid_request(match name {
            "grant_type" => "the parameter grant_type is missing",
            "scope" => "the parameter scope is missing",
            "subject_token" => "the parameter subject_token is missing",
            "token" => "the parameter token is missing",
            _ => "a parameter is missing",
        })
    }

    /// The client is not who it says it is.
    pub(super) const fn invalid_client(description: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_client", description)
    }

    pub(super) const fn unsupported_grant_type(description: &'static str) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "unsupported_grant_type",
            description,
        )
    }

    pub(super) const fn invalid_scope(description: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_scope", description)
    }

    /// RFC 8707 section 2.
    pub(super) const fn invalid_target(description: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_target", description)
    }

    /// The caller of introspection has no good access token (RFC 7662 section 2.3).
    pub(super) const fn invalid_token() -> Self {
        let description = "the access token of the caller is not valid";
        let mut error = Self::new(StatusCode::UNAUTHORIZED, "invalid_token", description);
        error.challenge = Some(BEARER);
        error
    }

    /// The caller of introspection lacks the role.
    pub(super) const fn insufficient_scope() -> Self {
        let description = "introspection needs the role verifier";
        Self::new(StatusCode::FORBIDDEN, "insufficient_scope", description)
    }

    /// Too many calls from one address.
    pub(super) const fn too_many_requests(retry_after: Duration) -> Self {
        let description = "too many requests from this address";
        let mut error = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "temporarily_unavailable",
            description,
        );
        error.retry_after = Some(retry_after);
        error
    }

    /// Something that is needed is away.
    pub(super) const fn unavailable(retry_after: Duration) -> Self {
        let mut error = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "temporarily_unavailable",
            "the service is not available at the moment",
        );
        error.retry_after = Some(retry_after);
        error
    }

    /// A fault of ours.
    pub(super) const fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            "internal error",
        )
    }

    /// Longer than a form may be.
    pub(super) const fn too_long() -> Self {
        let description = "the body is longer than 64 KiB";
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "invalid_request",
            description,
        )
    }

    /// The body did not arrive in time.
    pub(super) const fn too_slow() -> Self {
        let description = "the body did not arrive in time";
        Self::new(StatusCode::REQUEST_TIMEOUT, "invalid_request", description)
    }

    /// With the challenge that RFC 6749 section 5.2 demands for a client that came with HTTP Basic.
    pub(super) const fn challenging_basic(mut self) -> Self {
        if self.status.as_u16() == StatusCode::UNAUTHORIZED.as_u16() {
            self.challenge = Some(BASIC);
        }
        self
    }
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let body = json!({"error": self.code, "error_description": self.description});
        let mut response = json_response(self.status, &body);
        let headers = response.headers_mut();
        if let Some(challenge) = self.challenge {
            let challenge = HeaderValue::from_static(challenge);
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(delay) = self.retry_after {
            // Rounded up: a client that comes a moment too early is refused again.
            let seconds = delay.as_millis().div_ceil(1_000).max(1);
            let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// A JSON answer that nobody may cache (RFC 6749 section 5.1).
pub(super) fn json_response(status: StatusCode, body: &impl Serialize) -> Response {
    let Ok(json) = serde_json::to_vec(body) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::PRAGMA, "no-cache"),
    ];
    (status, headers, json).into_response()
}

//! The answers to Envoy: the identity headers for the upstream, or the refusal for the client.

use std::sync::LazyLock;

use http::HeaderMap;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{
    RequestId, error_status,
    ext_authz_challenge::challenge,
    ext_authz_core_pb::{HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction},
    ext_authz_pb::{
        CheckResponse, DeniedHttpResponse, OkHttpResponse, check_response::HttpResponse,
    },
    ext_authz_type_pb::{HttpStatus, StatusCode},
};
use crate::{auth::AuthError, tokens::AccessClaims};

const USER_ID: &str = "x-countersign-user-id";
const SESSION_ID: &str = "x-countersign-session-id";
const ROLES: &str = "x-countersign-roles";

/// The names by which an upstream might read an identity although they are not the ones that are set: CGI, WSGI and many
/// frameworks take `_` for `-`. Case does not matter to Envoy.
static OTHER_SPELLINGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let spellings = [USER_ID, SESSION_ID, ROLES].map(other_spellings);
    spellings.into_iter().flatten().collect()
});

/// Lets the request pass: with the identity in `claims`, or with none. Whatever the client sent as its identity is
/// replaced or removed. Envoy removes after it has set, so a name is in one of the two lists only.
pub(super) fn allowed(claims: Option<&AccessClaims>, remove_authorization: bool) -> CheckResponse {
    let identity = claims.map(|claims| {
        [
            (USER_ID, claims.user_id.to_string()),
            (SESSION_ID, claims.session_id.to_string()),
            (ROLES, claims.roles.join(",")),
        ]
    });
    let (set, unset): (Vec<_>, Vec<_>) = identity
        .unwrap_or_else(|| [USER_ID, SESSION_ID, ROLES].map(|name| (name, String::new())))
        .into_iter()
        .partition(|(_, value)| !value.is_empty());
    let mut remove = OTHER_SPELLINGS.clone();
    remove.extend(unset.into_iter().map(|(name, _)| name.to_owned()));
    if remove_authorization {
        remove.push("authorization".to_owned());
    }
    let set = set.into_iter().map(|(name, value)| header(name, value));
    CheckResponse {
        status: Some(rpc_status(Code::Ok)),
        http_response: Some(HttpResponse::OkResponse(OkHttpResponse {
            headers: set.collect(),
            headers_to_remove: remove,
        })),
    }
}

/// What the client of the proxy understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// HTTP statuses and JSON.
    Http,
    /// `grpc-status` and its details.
    Grpc,
}

impl Client {
    /// The client that sent a request of this content type. Envoy decides in the same way.
    pub(super) fn of(content_type: &str) -> Self {
        let rest = content_type.strip_prefix("application/grpc");
        match rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';'])) {
            true => Self::Grpc,
            false => Self::Http,
        }
    }
}

/// Refuses the request because of `error`.
pub(super) fn denied(error: AuthError, request_id: &RequestId, client: Client) -> CheckResponse {
    let challenge = challenge(&error);
    let status = error_status(error, request_id);
    let details = status.get_error_details();
    tracing::info!(
        target: "countersign::access",
        parent: None,
        request_id = request_id.as_str(),
        method = "envoy.service.auth.v3.Authorization/Check",
        reason = details.error_info().map(|info| info.reason.as_str()),
        "denied"
    );
    let mut headers = vec![header("x-request-id", request_id.as_str().to_owned())];
    headers.extend(challenge.map(|challenge| header("www-authenticate", challenge)));
    if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
        // Whole seconds, rounded up: who waits so long has waited long enough (RFC 9110 section 10.2.3).
        let seconds = delay.as_millis().div_ceil(1_000);
        headers.push(header("retry-after", seconds.to_string()));
    }
    let body = match client {
        Client::Grpc => {
            headers.extend(grpc_headers(&status));
            // Envoy would make it the message of the status, which is in the headers already.
            String::new()
        }
        Client::Http => {
            headers.push(header("content-type", "application/json".to_owned()));
            json_body(&status).to_string()
        }
    };
    CheckResponse {
        status: Some(rpc_status(status.code())),
        http_response: Some(HttpResponse::DeniedResponse(DeniedHttpResponse {
            status: Some(HttpStatus {
                code: http_status(status.code()).into(),
            }),
            headers,
            body,
        })),
    }
}

/// If the token cannot be checked, the answer is 503: "unknown" is not "invalid".
const fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Unauthenticated => StatusCode::Unauthorized,
        Code::PermissionDenied => StatusCode::Forbidden,
        Code::ResourceExhausted => StatusCode::TooManyRequests,
        _ => StatusCode::ServiceUnavailable,
    }
}

/// The status as trailers of a gRPC call.
fn grpc_headers(status: &Status) -> Vec<HeaderValueOption> {
    let mut headers = HeaderMap::new();
    // It fails only for a message that is no header value, and ours are ASCII.
    let _ = status.add_header(&mut headers);
    let texts = headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?.to_owned())));
    texts.map(|(name, value)| header(name, value)).collect()
}

/// The status in the JSON form of `google.rpc.Status`, as gateways that transcode gRPC write it.
fn json_body(status: &Status) -> Value {
    let details = status.get_error_details();
    let mut list = Vec::new();
    if let Some(info) = details.error_info() {
        let mut detail = json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": info.reason,
            "domain": info.domain,
        });
        if !info.metadata.is_empty() {
            detail["metadata"] = json!(info.metadata);
        }
        list.push(detail);
    }
    if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
        list.push(json!({
            "@type": "type.googleapis.com/google.rpc.RetryInfo",
            "retryDelay": format!("{}s", delay.as_secs_f64()),
        }));
    }
    if let Some(info) = details.request_info() {
        list.push(json!({
            "@type": "type.googleapis.com/google.rpc.RequestInfo",
            "requestId": info.request_id,
        }));
    }
    json!({ "code": status.code() as i32, "message": status.message(), "details": list })
}

fn rpc_status(code: Code) -> tonic_types::Status {
    tonic_types::Status {
        code: code.into(),
        ..Default::default()
    }
}

/// A header that replaces all of its name.
fn header(name: &str, value: String) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: name.to_owned(),
            value,
            ..HeaderValue::default()
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
    }
}

/// Every name in which some of the hyphens are underscores.
fn other_spellings(name: &str) -> Vec<String> {
    let mut spellings = vec![String::new()];
    for letter in name.chars() {
        let letters: &[char] = match letter {
            '-' => &['-', '_'],
            ref letter => std::slice::from_ref(letter),
        };
        let longer = spellings
            .iter()
            .flat_map(|begun| letters.iter().map(move |letter| format!("{begun}{letter}")));
        spellings = longer.collect();
    }
    spellings.retain(|spelling| spelling != name);
    spellings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_with_underscores_is_removed() {
        assert_eq!(other_spellings("a-b"), ["a_b"]);
        assert_eq!(other_spellings("a-b-c"), ["a-b_c", "a_b-c", "a_b_c"]);
        assert_eq!(OTHER_SPELLINGS.len(), 7 + 7 + 3);
        let is_set = |name: &String| [USER_ID, SESSION_ID, ROLES].contains(&name.as_str());
        assert!(!OTHER_SPELLINGS.iter().any(is_set));
    }

    #[test]
    fn a_request_without_identity_loses_every_name_of_one() {
        let Some(HttpResponse::OkResponse(ok)) = allowed(None, true).http_response else {
            panic!("it passes");
        };
        assert!(ok.headers.is_empty());
        for name in [
            USER_ID,
            SESSION_ID,
            ROLES,
            "authorization",
            "x_countersign_user_id",
        ] {
            assert!(
                ok.headers_to_remove.iter().any(|removed| removed == name),
                "{name}"
            );
        }
    }

    #[test]
    fn grpc_clients_are_recognised_by_their_content_type() {
        for grpc in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc;a=b",
        ] {
            assert_eq!(Client::of(grpc), Client::Grpc, "{grpc}");
        }
        for http in ["", "application/json", "application/grpc-web", "text/html"] {
            assert_eq!(Client::of(http), Client::Http, "{http}");
        }
    }
}

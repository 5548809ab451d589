//! The statuses of requests that break the gRPC protocol.
//!
//! For several of them tonic answers INTERNAL, or repeats input in its message. But INTERNAL is what
//! operators are alerted to, so no caller may be able to cause it; and messages are constant.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header::ALLOW};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{Detail, PendingStatus, Reason, RequestId, status};
use crate::domain::{FieldViolation, ViolationReason};

/// The header by which a server says which compression it accepts.
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// When a caller whose large request was refused should try again.
const MEMORY_RETRY: Duration = Duration::from_secs(1);

/// How a request breaks the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProtocolError {
    /// The HTTP method is not POST.
    HttpMethod,
    /// The content type is not that of gRPC with protobuf messages.
    ContentType,
    /// The headers are larger than `COUNTERSIGN_MAX_HEADER_SIZE`.
    HeadersTooLarge,
    /// The path names no service of this server.
    UnknownService,
    /// The path names no method of this service.
    UnknownMethod(&'static str),
    /// The message is compressed in a way that is not supported.
    Compression,
    /// The message is larger than `COUNTERSIGN_MAX_MESSAGE_SIZE`.
    MessageTooLarge,
    /// The body is not one whole message of the method's request type.
    MalformedMessage,
    /// There is no memory for the rest of a large request.
    RequestMemoryFull,
    /// The caller closed the stream or the connection while the request was arriving.
    CallerGone,
}

impl ProtocolError {
    /// The name in the access line.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::HttpMethod => "http_method",
            Self::ContentType => "content_type",
            Self::HeadersTooLarge => "headers_too_large",
            Self::UnknownService => "unknown_service",
            Self::UnknownMethod(_) => "unknown_method",
            Self::Compression => "compression",
            Self::MessageTooLarge => "message_too_large",
            Self::MalformedMessage => "malformed_message",
            Self::RequestMemoryFull => "request_memory_full",
            Self::CallerGone => "caller_gone",
        }
    }

    /// The status. INVALID_ARGUMENT has the reason `INVALID_FIELD` and names the part of the request;
    /// the codes that the gRPC specification demands have no reason.
    pub(super) fn status(self, request_id: &RequestId) -> Status {
        let invalid = |field, reason, description| {
            let violation = FieldViolation::new(field, reason, description);
            status(
                Reason::InvalidField,
                request_id,
                Detail::Fields(vec![violation]),
            )
        };
        let other = |code, message: String| {
            let mut details = ErrorDetails::new();
            details.set_request_info(request_id.as_str(), "");
            Status::with_error_details(code, message, details)
        };
        match self {
            Self::HttpMethod => invalid(":method", ViolationReason::Malformed, "must be POST"),
            Self::ContentType => invalid(
                "content-type",
                ViolationReason::Malformed,
                "must be application/grpc or application/grpc+proto",
            ),
            Self::HeadersTooLarge => invalid(
                "headers",
                ViolationReason::TooLong,
                "the headers of the request are too large",
            ),
            Self::MalformedMessage => invalid(
                "",
                ViolationReason::Malformed,
                "the body must be one whole message of the method's request type",
            ),
            Self::UnknownService => other(
                Code::Unimplemented,
                "This server has no such service.".to_owned(),
            ),
            Self::UnknownMethod(service) => other(
                Code::Unimplemented,
                format!("The service {service} has no such method."),
            ),
            Self::Compression => {
                let message =
                    "Compressed requests are not supported; send grpc-encoding: identity.";
                let mut status = other(Code::Unimplemented, message.to_owned());
                let identity = "identity".parse().expect("visible ASCII");
                status.metadata_mut().insert(ACCEPT_ENCODING, identity);
                status
            }
            Self::MessageTooLarge => other(
                Code::OutOfRange,
                "The request message is too large.".to_owned(),
            ),
            Self::RequestMemoryFull => {
                let detail = Detail::RetryAfter(MEMORY_RETRY);
                status(Reason::Overloaded, request_id, detail)
            }
            Self::CallerGone => other(
                Code::Cancelled,
                "The call was ended before its request had arrived.".to_owned(),
            ),
        }
    }

    /// The response without a message. What no gRPC client sends gets the HTTP status that other
    /// clients understand (PROTOCOL-HTTP2.md, "Requests"); gRPC clients must get 200, or some of them
    /// ignore `grpc-status`.
    pub(super) fn response<B: Default>(self, request_id: &RequestId) -> Response<B> {
        let mut response = self.status(request_id).into_http();
        match self {
            Self::HttpMethod => {
                *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
                let headers = response.headers_mut();
                headers.insert(ALLOW, HeaderValue::from_static("POST"));
            }
            Self::ContentType => *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE,
            _ => {}
        }
        response.extensions_mut().insert(self);
        response
    }

    /// The error behind a status of tonic's own that came before any message. Statuses of the
    /// services never have these codes without details; `clippy.toml` forbids it.
    fn of_tonic(code: Code, headers: &HeaderMap) -> Option<Self> {
        match code {
            Code::Internal => Some(Self::MalformedMessage),
            Code::OutOfRange => Some(Self::MessageTooLarge),
            Code::Aborted => Some(Self::CallerGone),
            Code::ResourceExhausted => Some(Self::RequestMemoryFull),
            Code::Unimplemented if headers.contains_key(ACCEPT_ENCODING) => Some(Self::Compression),
            Code::Unimplemented => Some(Self::UnknownService),
            _ => None,
        }
    }
}

/// The error of a request body that ends before its time. [`complete`] turns it into CANCELLED. It is
/// not CANCELLED itself, because tonic takes that for an ordinary end of the body.
#[expect(
    clippy::disallowed_methods,
    reason = "`complete` turns it into CANCELLED"
)]
pub(super) fn caller_gone() -> Status {
    Status::aborted("")
}

/// The error of a request body for which there is no memory. [`complete`] turns it into `OVERLOADED`.
#[expect(
    clippy::disallowed_methods,
    reason = "`complete` turns it into `OVERLOADED`"
)]
pub(super) fn request_memory_full() -> Status {
    Status::resource_exhausted("")
}

/// Completes a response that failed with `code` before its first message: a [`PendingStatus`] or a
/// status of tonic's own becomes one as the contract promises.
pub(super) fn complete<B>(response: &mut Response<B>, code: Code, request_id: &RequestId) {
    if response.headers().contains_key(Status::GRPC_STATUS_DETAILS) {
        return;
    }
    let status = if let Some(pending) = response.extensions_mut().remove::<PendingStatus>() {
        status(pending.reason, request_id, pending.detail)
    } else if let Some(error) = ProtocolError::of_tonic(code, response.headers()) {
        response.extensions_mut().insert(error);
        error.status(request_id)
    } else {
        return;
    };
    let headers = response.headers_mut();
    headers.remove(Status::GRPC_MESSAGE);
    // It fails only for a message that is no header value, and ours are ASCII.
    let _ = status.add_header(headers);
}

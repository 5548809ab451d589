//! What is said about one call when it ends, however it ends.

use std::time::{Duration, Instant};

use http::{Extensions, HeaderMap};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tracing::Span;

use super::{
    ClientAddress, RequestId,
    methods::{Loudness, Method},
};
use crate::{clock::monotonic_now, grpc::Reason};

/// One call under way. It is reported exactly once: when it is finished, or when it is dropped
/// unfinished because the caller went away.
pub(super) struct Call {
    method: &'static Method,
    request_id: RequestId,
    client: Option<ClientAddress>,
    started: Instant,
    /// The call's server span; disabled when nobody records it.
    pub(super) span: Span,
    reported: bool,
}

impl Call {
    /// A call that begins now.
    pub(super) fn begin(method: &'static Method, extensions: &Extensions) -> Self {
        method.metrics.started();
        Self {
            method,
            request_id: RequestId::of(extensions),
            client: ClientAddress::of(extensions),
            started: monotonic_now(),
            span: Span::none(),
            reported: false,
        }
    }

    /// The name of the request.
    pub(super) const fn request_id(&self) -> &RequestId {
        &self.request_id
    }

    /// Ends the call with the `grpc-status` in these headers or trailers; UNKNOWN without one.
    pub(super) fn finish(mut self, headers: &HeaderMap) {
        self.report(code(headers).unwrap_or(Code::Unknown), Some(headers));
    }

    fn report(&mut self, code: Code, headers: Option<&HeaderMap>) {
        self.reported = true;
        let took = monotonic_now().saturating_duration_since(self.started);
        self.method.metrics.handled(code as usize, took);
        self.span.record("rpc.grpc.status_code", code as i32);
        if is_our_fault(code) {
            self.span.record("otel.status_code", "ERROR");
        }
        self.write_line(code, took, headers);
    }

    fn write_line(&self, code: Code, took: Duration, headers: Option<&HeaderMap>) {
        // The arguments of `event!` are evaluated only when somebody listens.
        macro_rules! line {
            ($level:ident) => {
                tracing::event!(
                    target: "countersign::access",
                    // The line says all by itself: no span around it, no event in the trace.
                    parent: None,
                    tracing::Level::$level,
                    request_id = self.request_id.as_str(),
                    method = self.method.full_name(),
                    code = name(code),
                    reason = headers.and_then(reason).map(Reason::as_str),
                    duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                    client = self.client.map(|client| tracing::field::display(client.ip())),
                    "call"
                )
            };
        }
        let loudness = match code {
            Code::Ok => self.method.success,
            _ => self.method.failure,
        };
        match loudness {
            Loudness::Debug => line!(DEBUG),
            Loudness::Info => line!(INFO),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.reported {
            self.report(Code::Cancelled, None);
        }
    }
}

/// The `grpc-status` in headers or trailers.
pub(super) fn code(headers: &HeaderMap) -> Option<Code> {
    let value = headers.get(Status::GRPC_STATUS)?;
    Some(Code::from_bytes(value.as_bytes()))
}

/// The reason in `grpc-status-details-bin`; only names of our own list come out.
fn reason(headers: &HeaderMap) -> Option<Reason> {
    if !headers.contains_key(Status::GRPC_STATUS_DETAILS) {
        return None;
    }
    let info = Status::from_header_map(headers)?.get_details_error_info()?;
    Reason::from_name(&info.reason)
}

/// Whether OpenTelemetry counts the code as an error of the server.
const fn is_our_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// The code as the gRPC specification spells it.
const fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

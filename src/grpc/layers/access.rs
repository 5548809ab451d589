//! The access line and the metrics of one call, written once when it ends, however it ends.

use std::{
    thread,
    time::{Duration, Instant},
};

use http::{Extensions, HeaderMap};
use opentelemetry::trace::{TraceContextExt as _, TraceId};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tracing::{Level, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::{ClientAddress, methods::Method};
use crate::grpc::RequestId;
use crate::{
    clock::monotonic_now,
    grpc::{Reason, protocol_error::ProtocolError},
    telemetry,
};

/// One call under way. It is reported exactly once: when it is finished, or when it is dropped
/// unfinished because the caller has gone or the handler has panicked.
pub(super) struct Call {
    method: &'static Method,
    request_id: RequestId,
    client: Option<ClientAddress>,
    started: Instant,
    /// The call's server span; disabled when it is not recorded.
    pub(super) span: Span,
    /// How the request broke the protocol, if it did.
    pub(super) error: Option<ProtocolError>,
    reported: bool,
}

impl Call {
    /// A call that begins now.
    pub(super) fn begin(method: &'static Method, extensions: &Extensions) -> Self {
        method.metrics().started();
        Self {
            method,
            request_id: RequestId::of(extensions),
            client: ClientAddress::of(extensions),
            started: monotonic_now(),
            span: Span::none(),
            error: None,
            reported: false,
        }
    }

    /// The id of the request.
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
        self.method.metrics().handled(code as usize, took);
        let is_error = is_server_error(code);
        telemetry::record_call(self.method.rpc_method(), name(code), is_error, took);
        self.span.record("rpc.status_code", name(code));
        if is_error {
            self.span.record("otel.status_code", "ERROR");
            self.span.record("error.type", name(code));
        }
        self.write_line(code, took, headers);
    }

    fn write_line(&self, code: Code, took: Duration, headers: Option<&HeaderMap>) {
        // The arguments of `event!` are evaluated only when the line is written.
        macro_rules! line {
            ($level:ident) => {
                tracing::event!(
                    target: "countersign::access",
                    // The line is complete by itself: it needs no span, and no event in the trace.
                    parent: None,
                    tracing::Level::$level,
                    request_id = self.request_id.as_str(),
                    trace_id = trace_id(&self.span).map(tracing::field::display),
                    method = self.method.full_name(),
                    code = name(code),
                    reason = headers.and_then(reason).map(Reason::as_str),
                    error = self.error.map(ProtocolError::name),
                    duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                    client = self.client.map(|client| tracing::field::display(client.ip())),
                    "call"
                )
            };
        }
        let level = match code {
            Code::Ok => self.method.success,
            _ => self.method.failure,
        };
        match level {
            Level::DEBUG => line!(DEBUG),
            _ => line!(INFO),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.reported {
            let code = match thread::panicking() {
                true => Code::Internal,
                false => Code::Cancelled,
            };
            self.report(code, None);
        }
    }
}

/// The trace to which the call belongs, if traces are exported.
fn trace_id(span: &Span) -> Option<TraceId> {
    let id = span.context().span().span_context().trace_id();
    (id != TraceId::INVALID).then_some(id)
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
const fn is_server_error(code: Code) -> bool {
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

//! One server span, one access line and one entry in the metrics for each call.
//!
//! Not tower-http's `TraceLayer`: it has no callback for a call that is dropped because its caller has
//! gone, and no place for what one call needs at its end. Line and span cost nothing when they are off:
//! those of hot methods are at DEBUG, and fields are formatted only for a subscriber that wants them.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use opentelemetry::propagation::Extractor;
use pin_project_lite::pin_project;
use tower::{Layer, Service};
use tracing::{Level, Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::{
    access::{self, Call},
    methods::{self, Method},
};
use crate::grpc::{RequestId, protocol_error};

/// Wraps each call in a span, and reports it when it ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct TraceLayer;

impl<S> Layer<S> for TraceLayer {
    type Service = TraceService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        TraceService { inner }
    }
}

/// The service of [`TraceLayer`].
#[derive(Clone, Debug)]
pub struct TraceService<S> {
    inner: S,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for TraceService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: Body,
{
    type Response = Response<TraceBody<ResBody>>;
    type Error = S::Error;
    type Future = TraceFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let method = methods::find(request.uri().path()).unwrap_or(&methods::UNKNOWN);
        let mut call = Call::begin(method, request.extensions());
        call.span = span(method, call.request_id(), request.headers());
        let inner = call.span.in_scope(|| self.inner.call(request));
        TraceFuture {
            inner,
            call: Some(call),
        }
    }
}

/// The server span of a call, a child of the caller's span if `traceparent` names one; disabled when
/// the method is not traced or spans are not recorded.
fn span(method: &'static Method, request_id: &RequestId, headers: &HeaderMap) -> Span {
    macro_rules! span {
        ($level:ident) => {
            tracing::span!(
                target: "countersign::request",
                tracing::Level::$level,
                "request",
                otel.name = method.full_name(),
                otel.kind = "server",
                otel.status_code = Empty,
                rpc.system.name = "grpc",
                rpc.method = method.rpc_method(),
                rpc.status_code = Empty,
                error.type = Empty,
                request_id = request_id.as_str(),
            )
        };
    }
    let span = match method.span {
        None => Span::none(),
        Some(Level::DEBUG) => span!(DEBUG),
        Some(_) => span!(INFO),
    };
    if !span.is_disabled() && headers.contains_key("traceparent") {
        let parent = opentelemetry::global::get_text_map_propagator(|propagator| {
            propagator.extract(&Headers(headers))
        });
        // It fails only when spans are not exported; then there is no trace to continue.
        let _ = span.set_parent(parent);
    }
    span
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

pin_project! {
    /// The future of [`TraceService`].
    pub struct TraceFuture<F> {
        #[pin]
        inner: F,
        call: Option<Call>,
    }
}

impl<F, E, ResBody> Future for TraceFuture<F>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
    ResBody: Body,
{
    type Output = Result<Response<TraceBody<ResBody>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(in_span(this.call.as_ref(), || this.inner.poll(cx)))?;
        let mut call = this.call.take();
        // A call that fails before its first message has its status in the headers, all others in the
        // trailers.
        let code = access::code(response.headers());
        if let (Some(code), Some(call)) = (code, &mut call) {
            protocol_error::complete(&mut response, code, call.request_id());
            call.error = response.extensions().get().copied();
        }
        if (code.is_some() || response.body().is_end_stream())
            && let Some(call) = call.take()
        {
            call.finish(response.headers());
        }
        Poll::Ready(Ok(response.map(|inner| TraceBody { inner, call })))
    }
}

pin_project! {
    /// A response body that reports its call when it ends.
    pub struct TraceBody<B> {
        #[pin]
        inner: B,
        call: Option<Call>,
    }
}

impl<B: Body> Body for TraceBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        let frame = ready!(in_span(this.call.as_ref(), || this.inner.poll_frame(cx)));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref()
                    && let Some(call) = this.call.take()
                {
                    call.finish(trailers);
                }
            }
            // A body without trailers: its call has no status.
            Some(Err(_)) | None => {
                if let Some(call) = this.call.take() {
                    call.finish(&HeaderMap::new());
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn in_span<T>(call: Option<&Call>, work: impl FnOnce() -> T) -> T {
    match call {
        Some(call) => call.span.in_scope(work),
        None => work(),
    }
}

//! gRPC-Web and CORS: lets pages of configured origins call the service from a browser.
//!
//! It is the outermost layer, because neither a preflight nor a gRPC-Web request is a gRPC call: tonic-web turns the latter
//! into one. Requests of other clients pass untouched. Without origins the layer does nothing, and gRPC-Web is refused
//! like any other content type. Browsers speak HTTP/2 over TLS alone, so this needs TLS here or a proxy in front.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, Response,
    header::{AUTHORIZATION, CONTENT_TYPE, ORIGIN},
};
use http_body_util::{BodyExt as _, Either};
use pin_project_lite::pin_project;
use tonic::{Status, body::Body};
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower::{Layer, Service, util::MapRequest};
use tower_http::cors::{Cors, CorsLayer};

/// How long a browser may keep the answer to a preflight.
const PREFLIGHT_AGE: Duration = Duration::from_secs(600);

/// What a page may send besides what every page may.
const REQUEST_HEADERS: [HeaderName; 8] = [
    AUTHORIZATION,
    CONTENT_TYPE,
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("x-grpc-web"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("x-user-agent"),
];

/// What a page may read. A call that fails before its first message has its status in the headers: a browser that does not
/// show them makes UNKNOWN of every failure.
const RESPONSE_HEADERS: [HeaderName; 5] = [
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status-details-bin"),
    HeaderName::from_static("grpc-retry-pushback-ms"),
    HeaderName::from_static("x-request-id"),
];

/// The layer.
#[derive(Clone)]
pub struct WebLayer {
    cors: Option<CorsLayer>,
}

impl WebLayer {
    /// Lets pages of exactly these origins call; without any, none.
    pub fn new(origins: &[String]) -> Self {
        let origins = origins.iter().map(|origin| {
            HeaderValue::from_str(origin)
                .expect("an origin is visible ASCII: `config` has checked it")
        });
        let origins: Vec<_> = origins.collect();
        // Credentials are not allowed: the service reads no cookie.
        let cors = (!origins.is_empty()).then(|| {
            CorsLayer::new()
                .allow_origin(origins)
                .allow_methods([Method::POST])
                .allow_headers(REQUEST_HEADERS)
                .expose_headers(RESPONSE_HEADERS)
                .max_age(PREFLIGHT_AGE)
        });
        Self { cors }
    }
}

impl<S: Clone> Layer<S> for WebLayer {
    type Service = WebService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let web = self.cors.as_ref();
        let web = web.map(|cors| {
            let inner = MapRequest::new(inner.clone(), restore_failure as Restore);
            cors.layer(GrpcWebLayer::new().layer(inner))
        });
        WebService { inner, web }
    }
}

/// What pages are answered by.
type Web<S> = Cors<GrpcWebService<MapRequest<S, Restore>>>;
type Restore = fn(Request<Body>) -> Request<Body>;

/// The service of [`WebLayer`].
#[derive(Clone)]
pub struct WebService<S> {
    inner: S,
    web: Option<Web<S>>,
}

impl<S, B> Service<Request<Body>> for WebService<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
    Web<S>: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    B: http_body::Body<Data = Bytes>,
{
    type Response = Response<Either<B, Body>>;
    type Error = Infallible;
    type Future = WebFuture<S::Future, <Web<S> as Service<Request<Body>>>::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if let Some(web) = &mut self.web {
            ready!(web.poll_ready(cx))?;
        }
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match &mut self.web {
            Some(web) if is_of_a_page(&request) => WebFuture::Page {
                response: web.call(note_failure(request)),
            },
            _ => WebFuture::Other {
                response: self.inner.call(request),
            },
        }
    }
}

/// Why the body of a request ended before its time. tonic-web makes INTERNAL of it, as of text that is not base64; but a caller
/// that is gone and a lack of memory have statuses of their own.
#[derive(Clone, Debug, Default)]
struct Failure(Arc<OnceLock<Status>>);

/// Before tonic-web: notes the failure of the body.
fn note_failure(request: Request<Body>) -> Request<Body> {
    let failure = Failure::default();
    let noted = failure.clone();
    let mut request = request
        .map(|body| Body::new(body.map_err(move |status| noted.0.get_or_init(|| status).clone())));
    request.extensions_mut().insert(failure);
    request
}

/// Behind tonic-web: has the body fail with what was noted.
fn restore_failure(mut request: Request<Body>) -> Request<Body> {
    match request.extensions_mut().remove::<Failure>() {
        Some(noted) => request.map(|body| {
            Body::new(body.map_err(move |status| noted.0.get().cloned().unwrap_or(status)))
        }),
        None => request,
    }
}

/// Whether a browser sent the request for a page, or a client that speaks gRPC-Web.
fn is_of_a_page<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let is_grpc_web = |value: &HeaderValue| value.as_bytes().starts_with(b"application/grpc-web");
    headers.contains_key(ORIGIN)
        || request.method() == Method::OPTIONS
        || headers.get(CONTENT_TYPE).is_some_and(is_grpc_web)
}

pin_project! {
    /// The future of [`WebService`].
    #[project = Projection]
    pub enum WebFuture<O, P> {
        // A call of any other client.
        Other {
            #[pin]
            response: O,
        },
        // A request of a page.
        Page {
            #[pin]
            response: P,
        },
    }
}

impl<O, P, B> Future for WebFuture<O, P>
where
    O: Future<Output = Result<Response<B>, Infallible>>,
    P: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = Result<Response<Either<B, Body>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match self.project() {
            Projection::Other { response } => {
                ready!(response.poll(cx)).map(|response| response.map(Either::Left))
            }
            Projection::Page { response } => {
                ready!(response.poll(cx)).map(|response| response.map(Either::Right))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_pages_are_distinguished_from_those_of_other_clients() {
        let request = |method: &str, name: &str, value: &str| {
            let request = Request::builder().method(method).header(name, value);
            is_of_a_page(&request.body(()).unwrap())
        };
        assert!(request(
            "POST",
            "content-type",
            "application/grpc-web+proto"
        ));
        assert!(request("POST", "content-type", "application/grpc-web-text"));
        assert!(request("POST", "origin", "https://app.example.com"));
        assert!(request("OPTIONS", "te", "trailers"));
        assert!(!request("POST", "content-type", "application/grpc"));
        assert!(!request("POST", "content-type", "application/grpc+proto"));
    }
}

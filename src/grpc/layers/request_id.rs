//! Gives every request an id, and every response the header with it.
//!
//! Not tower-http's request id layers: they accept any text from the caller, and copy the id four times
//! for every request.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderName, Request, Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::{clock::Clock, grpc::RequestId};

const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Puts a [`RequestId`] into each request's extensions and `x-request-id` on each response.
#[derive(Clone, Debug)]
pub struct RequestIdLayer {
    clock: Clock,
}

impl RequestIdLayer {
    /// The layer; new ids contain the time of this clock.
    pub const fn new(clock: Clock) -> Self {
        Self { clock }
    }
}

impl<S> Layer<S> for RequestIdLayer {
    type Service = RequestIdService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequestIdService {
            inner,
            clock: self.clock.clone(),
        }
    }
}

/// The service of [`RequestIdLayer`].
#[derive(Clone, Debug)]
pub struct RequestIdService<S> {
    inner: S,
    clock: Clock,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for RequestIdService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = RequestIdFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let mut values = request.headers().get_all(HEADER).iter();
        let request_id = match (values.next(), values.next()) {
            (Some(value), None) => RequestId::chosen(value),
            _ => None,
        };
        let request_id = request_id.unwrap_or_else(|| RequestId::generate(self.clock.now()));
        request.extensions_mut().insert(request_id.clone());
        RequestIdFuture {
            inner: self.inner.call(request),
            request_id: Some(request_id),
        }
    }
}

pin_project! {
    /// The future of [`RequestIdService`].
    #[derive(Debug)]
    pub struct RequestIdFuture<F> {
        #[pin]
        inner: F,
        request_id: Option<RequestId>,
    }
}

impl<F, E, ResBody> Future for RequestIdFuture<F>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        if let Some(request_id) = this.request_id.take() {
            response
                .headers_mut()
                .insert(HEADER, request_id.into_header());
        }
        Poll::Ready(Ok(response))
    }
}

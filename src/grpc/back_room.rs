//! proto
#![allow(missing_docs)]
use std::{convert::Infallible, future::Future, pin::Pin, task::{Context, Poll}};
use http::{Request, Response};
use tonic::body::Body;
use tower::{Layer, Service};
#[derive(Clone)]
pub struct BackRoom { pub handle: Option<tokio::runtime::Handle> }
impl<S> Layer<S> for BackRoom { type Service = BackRoomService<S>; fn layer(&self, inner: S) -> BackRoomService<S> { BackRoomService { handle: self.handle.clone(), inner } } }
#[derive(Clone)]
pub struct BackRoomService<S> { handle: Option<tokio::runtime::Handle>, inner: S }
impl<S> Service<Request<Body>> for BackRoomService<S>
where S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone, S::Future: Send + 'static {
    type Response = Response<Body>; type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> { self.inner.poll_ready(cx) }
    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let call = self.inner.call(request);
        match &self.handle { Some(h) => { let t = h.spawn(call); Box::pin(async move { t.await.expect("x") }) }, None => Box::pin(call) }
    }
}

//! Gives every request an id, and every response the header with it: tower-http's layers, and the rule for
//! ids that callers choose.

use http::{HeaderName, Request};
use tower::{
    ServiceBuilder,
    layer::util::{Identity, Stack},
    util::MapRequestLayer,
};
use tower_http::request_id::{
    MakeRequestId, PropagateRequestIdLayer, RequestId as HeaderId, SetRequestIdLayer,
};

use crate::{clock::Clock, grpc::RequestId};

pub(super) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// tower-http's layers behind the check of what callers send, for requests with the body `B`.
pub type RequestIdLayer<B> = Stack<
    PropagateRequestIdLayer,
    Stack<SetRequestIdLayer<NewRequestId>, Stack<MapRequestLayer<Check<B>>, Identity>>,
>;

type Check<B> = fn(Request<B>) -> Request<B>;

/// Puts a [`RequestId`] into each request's extensions and `x-request-id` on each response. New ids contain
/// the time of `clock`.
pub(super) fn layer<B>(clock: Clock) -> RequestIdLayer<B> {
    ServiceBuilder::new()
        .map_request(check as Check<B>)
        .layer(SetRequestIdLayer::new(HEADER, NewRequestId { clock }))
        .layer(PropagateRequestIdLayer::new(HEADER))
        .into_inner()
}

/// Removes an id that the caller may not choose, and several. tower-http accepts any.
fn check<B>(mut request: Request<B>) -> Request<B> {
    let mut values = request.headers().get_all(HEADER).iter();
    let chosen = match (values.next(), values.next()) {
        (None, _) => return request,
        (Some(value), None) => RequestId::chosen(value),
        (Some(_), Some(_)) => None,
    };
    match chosen {
        Some(id) => request.headers_mut().insert(HEADER, id.into_header()),
        None => request.headers_mut().remove(HEADER),
    };
    request
}

/// Makes the id of a request that has none.
#[derive(Clone, Debug)]
pub struct NewRequestId {
    clock: Clock,
}

impl MakeRequestId for NewRequestId {
    fn make_request_id<B>(&mut self, _: &Request<B>) -> Option<HeaderId> {
        let id = RequestId::generate(self.clock.now());
        Some(HeaderId::new(id.into_header()))
    }
}

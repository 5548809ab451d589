//! Gives every request an id: in the response, the log and the details of a status.
//!
//! Not tower-http's request id layers: they accept any text from the caller, and copy the id four times
//! for every request.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Extensions, HeaderName, HeaderValue, Request, Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service};
use uuid::fmt::Hyphenated;

use crate::{
    clock::{Clock, Timestamp},
    domain::uuid_v7,
};

const HEADER: HeaderName = HeaderName::from_static("x-request-id");
const MAX_LENGTH: usize = 128;

/// The id of a request: the caller's, or a new `UUIDv7`. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Id);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Id {
    /// Stored inline: nearly every request has one of these, and its copies cost no allocation.
    Generated([u8; Hyphenated::LENGTH]),
    /// The caller's.
    Chosen(HeaderValue),
    /// The request did not pass the layer.
    None,
}

impl RequestId {
    /// A new id.
    pub fn generate(now: Timestamp) -> Self {
        let mut text = [0; Hyphenated::LENGTH];
        uuid_v7(now).as_hyphenated().encode_lower(&mut text);
        Self(Id::Generated(text))
    }

    /// The id of the request with these extensions; `-` when it did not pass the layer.
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or(Self(Id::None))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Id::Generated(text) => str::from_utf8(text).unwrap_or_default(),
            Id::Chosen(value) => value.to_str().unwrap_or_default(),
            Id::None => "-",
        }
    }

    /// The id in a header of this value, by the same rule as for the caller's own.
    pub(in crate::grpc) fn from_text(text: &str) -> Option<Self> {
        Self::chosen(&HeaderValue::from_str(text).ok()?)
    }

    /// The id that the caller has chosen, if it is 1 to 128 visible ASCII characters.
    fn chosen(value: &HeaderValue) -> Option<Self> {
        let bytes = value.as_bytes();
        let acceptable =
            (1..=MAX_LENGTH).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
        acceptable.then(|| Self(Id::Chosen(value.clone())))
    }

    /// The header of the response. A sensitive header is not entered into HPACK's table (RFC 7541 section
    /// 7.1.3), where a value that never comes again would only evict useful ones.
    fn into_header(self) -> HeaderValue {
        let mut value = match self.0 {
            Id::Generated(text) => HeaderValue::from_bytes(&text).expect("a UUID is visible ASCII"),
            Id::Chosen(value) => value,
            Id::None => HeaderValue::from_static("-"),
        };
        value.set_sensitive(true);
        value
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_1_to_128_visible_ascii_characters_are_accepted() {
        let longest = "x".repeat(128);
        for good in ["a", "!~", "0190163d-8694-739b-aea5-966c26f8ad91", &longest] {
            let value = HeaderValue::from_str(good).unwrap();
            assert_eq!(RequestId::chosen(&value).unwrap().as_str(), good);
        }
        let too_long = "x".repeat(129);
        for bad in ["", " ", "a b", "a\tb", "é", &too_long] {
            let value = HeaderValue::from_bytes(bad.as_bytes()).unwrap();
            assert_eq!(RequestId::chosen(&value), None, "{bad:?}");
        }
    }

    #[test]
    fn a_new_id_is_a_uuid_of_version_7() {
        let id = RequestId::generate(Timestamp::from_seconds(1_700_000_000));
        let uuid = uuid::Uuid::parse_str(id.as_str()).unwrap();
        assert_eq!(uuid.get_version_num(), 7);
    }
}

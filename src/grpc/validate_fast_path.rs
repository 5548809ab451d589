//! ValidateToken's fast path: decodes the common request, one uncompressed message that arrives in one
//! DATA frame, without tonic's generic codec.
//!
//! tonic's way is made for streams of any length. The router boxes the call and its response, the
//! request is read into a buffer of 8 KiB through four more boxes, and the response is written through
//! as many. That costs more than the validation itself. Every other request (several frames, compressed,
//! truncated, too large) goes to tonic with all bytes that have been read, so that only tonic decides
//! what is malformed.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Request, Response,
    header::{CONTENT_TYPE, HeaderName},
    request::Parts,
};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use prost::{DecodeError, Message as _};
use tonic::{Status, body::Body, metadata::GRPC_CONTENT_TYPE};
use tower::{Layer, Service};

use super::{
    convert, demands, error_status,
    layers::{RateLimits, RequestId, methods::Limit},
    pb::ValidateTokenRequest,
    protocol_error::ProtocolError,
};
use crate::auth::{Auth, AuthError, ValidateQuery};

const PATH: &str = "/countersign.auth.v1.AuthService/ValidateToken";
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// The length of a message's prefix: the compressed flag and the length of the message.
const PREFIX: usize = 5;

/// Answers common calls of `ValidateToken`; the innermost layer, around the router.
#[derive(Clone)]
pub struct FastPath {
    auth: Auth,
    settings: Settings,
}

#[derive(Clone, Copy)]
struct Settings {
    enabled: bool,
    max_message_size: usize,
}

impl FastPath {
    /// Validates by `auth`. Messages of more than `max_message_size` bytes go to tonic, which refuses
    /// them. So do all calls when they have a rate limit, because that is a layer around tonic's route.
    pub fn new(auth: Auth, rate_limits: &RateLimits, max_message_size: usize) -> Self {
        let settings = Settings {
            enabled: rate_limits.governor(Limit::Token).is_none(),
            max_message_size,
        };
        Self { auth, settings }
    }
}

impl<S> Layer<S> for FastPath {
    type Service = FastPathService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        FastPathService {
            auth: self.auth.clone(),
            settings: self.settings,
            inner,
        }
    }
}

/// The service of [`FastPath`].
#[derive(Clone)]
pub struct FastPathService<S> {
    auth: Auth,
    settings: Settings,
    inner: S,
}

impl<S> Service<Request<Body>> for FastPathService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = FastPathFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let is_candidate = self.settings.enabled
            && request.uri().path() == PATH
            && !request.headers().contains_key(ENCODING);
        if !is_candidate {
            return FastPathFuture::Tonic {
                response: self.inner.call(request),
            };
        }
        let (head, body) = request.into_parts();
        FastPathFuture::Reading {
            call: Some(Call {
                head,
                body,
                message: Bytes::new(),
                service: self.clone(),
            }),
        }
    }
}

/// A call whose request has looked common so far.
struct Call<S> {
    head: Parts,
    body: Body,
    /// What has arrived: nothing, or one DATA frame.
    message: Bytes,
    service: FastPathService<S>,
}

/// What the body turned out to be.
enum Arrived {
    /// One whole message, and nothing after it.
    Message,
    /// Anything else; the frame that showed it, if any.
    Other(Option<Result<Frame<Bytes>, Status>>),
}

impl<S> Call<S> {
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Arrived> {
        while !self.body.is_end_stream() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                None => break,
                Some(Err(error)) => return Poll::Ready(Arrived::Other(Some(Err(error)))),
            };
            match frame.into_data() {
                Ok(data) if self.message.is_empty() => self.message = data,
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Poll::Ready(Arrived::Other(Some(Ok(Frame::data(data))))),
                Err(frame) => return Poll::Ready(Arrived::Other(Some(Ok(frame)))),
            }
        }
        Poll::Ready(
            match is_whole(&self.message, self.service.settings.max_message_size) {
                true => Arrived::Message,
                false => Arrived::Other(None),
            },
        )
    }

    /// The message, once it is whole.
    fn decode(&self) -> Result<ValidateTokenRequest, DecodeError> {
        ValidateTokenRequest::decode(self.message.slice(PREFIX..))
    }

    fn respond(self, request: Result<ValidateTokenRequest, DecodeError>) -> Response<Body> {
        let result = request.map_err(|_| Refused::Malformed).and_then(|request| {
            validate(&self.service.auth, &request, &self.head.headers).map_err(Refused::Auth)
        });
        match result {
            Ok(data) => {
                let mut response = Response::new(Body::new(OneMessage {
                    data: Some(data),
                    ended: false,
                }));
                let headers = response.headers_mut();
                headers.insert(CONTENT_TYPE, GRPC_CONTENT_TYPE);
                response
            }
            Err(refused) => {
                let request_id = RequestId::of(&self.head.extensions);
                match refused {
                    Refused::Malformed => ProtocolError::MalformedMessage.response(&request_id),
                    Refused::Auth(error) => error_status(error, &request_id).into_http(),
                }
            }
        }
    }
}

/// Why a call is refused.
enum Refused {
    Malformed,
    Auth(AuthError),
}

impl<S: Service<Request<Body>>> Call<S> {
    /// Passes the request to tonic.
    fn pass_on(self, next: Option<Result<Frame<Bytes>, Status>>) -> S::Future {
        let first = (!self.message.is_empty()).then(|| Ok(Frame::data(self.message)));
        let body = ReplayedBody {
            read: [first, next],
            rest: self.body,
        };
        let mut inner = self.service.inner;
        inner.call(Request::from_parts(self.head, Body::new(body)))
    }
}

/// Whether these bytes are exactly one uncompressed message in its gRPC frame.
fn is_whole(message: &[u8], max_size: usize) -> bool {
    let Some((&[compressed, a, b, c, d], rest)) = message.split_first_chunk::<PREFIX>() else {
        return false;
    };
    let length = u32::from_be_bytes([a, b, c, d]);
    compressed == 0 && rest.len() <= max_size && u32::try_from(rest.len()) == Ok(length)
}

/// The response to a request, in its gRPC frame.
fn validate(
    auth: &Auth,
    request: &ValidateTokenRequest,
    headers: &HeaderMap,
) -> Result<Bytes, AuthError> {
    let validated = auth.validate(query(request, headers)?)?;
    let encoded = validated
        .claims
        .encoded(|claims| convert::claims(claims, auth.issuer()).encode_to_vec());
    let as_of = convert::timestamp(validated.revocation_as_of);
    let mut framed = BytesMut::with_capacity(PREFIX + encoded.len() + 32);
    framed.put_bytes(0, PREFIX);
    framed.put_slice(encoded);
    // Protobuf fields may come in any order, so the one that changes is appended.
    prost::encoding::message::encode(9, &as_of, &mut framed);
    let length = u32::try_from(framed.len() - PREFIX).expect("no longer than a token");
    framed[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    Ok(framed.freeze())
}

/// The query of a request: about the token in the message, or else that of the `authorization`
/// metadata.
pub(super) fn query<'a>(
    request: &'a ValidateTokenRequest,
    headers: &'a HeaderMap,
) -> Result<ValidateQuery<'a>, AuthError> {
    let access_token = match request.access_token.as_str() {
        "" => convert::bearer(headers)?,
        token => token,
    };
    Ok(ValidateQuery {
        access_token,
        audience: &request.audience,
        required_roles: &request.required_roles,
        max_auth_age: demands::max_auth_age(request.max_auth_age.as_ref())?,
        acceptable_acrs: demands::acceptable_acrs(&request.acceptable_acrs)?,
        certificate: demands::client_certificate(&request.client_certificate_sha256)?,
    })
}

pin_project! {
    /// The future of [`FastPathService`].
    #[project = Projection]
    pub enum FastPathFuture<S: Service<Request<Body>>> {
        // The request is being read.
        Reading { call: Option<Call<S>> },
        // tonic answers the call.
        Tonic {
            #[pin]
            response: S::Future,
        },
    }
}

impl<S> Future for FastPathFuture<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let response = match self.as_mut().project() {
                Projection::Tonic { response } => return response.poll(cx),
                Projection::Reading { call } => {
                    let waiting = call.as_mut().expect("polled after it was ready");
                    let arrived = ready!(waiting.poll_message(cx));
                    let call = call.take().expect("it was there a line ago");
                    match arrived {
                        Arrived::Message => match call.decode() {
                            // It may have to wait, which an answer from memory does not.
                            Ok(request) if !request.at_least_cursor.is_empty() => {
                                call.pass_on(None)
                            }
                            request => return Poll::Ready(Ok(call.respond(request))),
                        },
                        Arrived::Other(next) => call.pass_on(next),
                    }
                }
            };
            self.set(Self::Tonic { response });
        }
    }
}

/// A response body: one message, and the trailers with status OK.
struct OneMessage {
    data: Option<Bytes>,
    ended: bool,
}

impl HttpBody for OneMessage {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match self.data.take() {
            Some(data) => Frame::data(data),
            None if self.ended => return Poll::Ready(None),
            None => {
                self.ended = true;
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
                Frame::trailers(trailers)
            }
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

/// A request body that begins with what has been read already.
struct ReplayedBody {
    read: [Option<Result<Frame<Bytes>, Status>>; 2],
    rest: Body,
}

impl HttpBody for ReplayedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.read.iter_mut().find_map(Option::take) {
            Some(frame) => Poll::Ready(Some(frame)),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.iter().all(Option::is_none) && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

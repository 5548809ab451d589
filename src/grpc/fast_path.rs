//! The fast path of ValidateToken and of Envoy's Check: decodes the common request, one uncompressed message that arrives
//! in one DATA frame, without tonic's generic codec.
//!
//! tonic's codec is made for streams of any length. The router boxes the call and its response, the
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
    Extensions, HeaderMap, Request, Response,
    header::{CONTENT_TYPE, HeaderName},
    request::Parts,
};
use http_body::{Body as _, Frame};
use pin_project_lite::pin_project;
use prost::Message as _;
use tonic::{Status, body::Body, metadata::GRPC_CONTENT_TYPE};
use tower::{Layer, Service};

use super::{
    RequestId, convert, demands, error_status, ext_authz,
    ext_authz_pb::CheckRequest,
    fast_path_bodies::{OneMessage, ReplayedBody},
    layers::{RateLimits, methods::Limit},
    pb::ValidateTokenRequest,
    protocol_error::ProtocolError,
};
use crate::auth::{Auth, AuthError, ValidateQuery};

const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// The length of a message's prefix: the compressed flag and the length of the message.
const PREFIX: usize = 5;

/// The methods that have the fast path. Both are open to everybody and answer from memory.
#[derive(Clone, Copy)]
enum Method {
    ValidateToken,
    Check,
}

impl Method {
    fn of(path: &str) -> Option<Self> {
        match path {
            "/countersign.auth.v1.AuthService/ValidateToken" => Some(Self::ValidateToken),
            "/envoy.service.auth.v3.Authorization/Check" => Some(Self::Check),
            _ => None,
        }
    }
}

/// Answers common calls of these methods; the innermost layer, around the router.
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
    /// Answers by `auth`. Messages of more than `max_message_size` bytes go to tonic, which refuses
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
        let method = Method::of(request.uri().path()).filter(|_| {
            let is_plain = !request.headers().contains_key(ENCODING);
            self.settings.enabled && is_plain
        });
        let Some(method) = method else {
            return FastPathFuture::Tonic {
                response: self.inner.call(request),
            };
        };
        let (head, body) = request.into_parts();
        FastPathFuture::Reading {
            call: Some(Call {
                method,
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
    method: Method,
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

    /// The answer to a whole message; `None` for a call that may have to wait, which an answer from memory does not.
    fn answer(&self) -> Option<Response<Body>> {
        let message = self.message.slice(PREFIX..);
        let auth = &self.service.auth;
        let result = match self.method {
            Method::ValidateToken => match ValidateTokenRequest::decode(message) {
                Ok(request) if !request.at_least_cursor.is_empty() => return None,
                Ok(request) => validate(auth, &request, &self.head.headers).map_err(Refused::Auth),
                Err(_) => Err(Refused::Malformed),
            },
            Method::Check => match CheckRequest::decode(message) {
                Ok(request) => check(auth, request, &self.head.extensions).map_err(Refused::Auth),
                Err(_) => Err(Refused::Malformed),
            },
        };
        Some(result.map_or_else(|refused| self.refusal(refused), response))
    }

    fn refusal(&self, refused: Refused) -> Response<Body> {
        let request_id = RequestId::of(&self.head.extensions);
        match refused {
            Refused::Malformed => ProtocolError::MalformedMessage.response(&request_id),
            Refused::Auth(error) => error_status(error, &request_id).into_http(),
        }
    }
}

/// A response with status OK and this message, which has its gRPC frame.
fn response(data: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::new(OneMessage::new(data)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, GRPC_CONTENT_TYPE);
    response
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
        let body = ReplayedBody::new([first, next], self.body);
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

/// The response to a request of ValidateToken, in its gRPC frame.
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
    Ok(with_length(framed))
}

/// The response to a request of Check, in its gRPC frame.
fn check(auth: &Auth, request: CheckRequest, extensions: &Extensions) -> Result<Bytes, AuthError> {
    let answer = ext_authz::check(auth, request, extensions)?;
    let mut framed = BytesMut::with_capacity(PREFIX + answer.encoded_len());
    framed.put_bytes(0, PREFIX);
    answer.encode_raw(&mut framed);
    Ok(with_length(framed))
}

/// The message behind the prefix, with its length in the prefix.
fn with_length(mut framed: BytesMut) -> Bytes {
    let length = u32::try_from(framed.len() - PREFIX).expect("no longer than a request");
    framed[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    framed.freeze()
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
                        Arrived::Message => match call.answer() {
                            Some(response) => return Poll::Ready(Ok(response)),
                            None => call.pass_on(None),
                        },
                        Arrived::Other(next) => call.pass_on(next),
                    }
                }
            };
            self.set(Self::Tonic { response });
        }
    }
}

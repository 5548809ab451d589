//! ValidateToken's own way from the wire to its use case and back.
//!
//! tonic's way is made for streams of any length: the router boxes the call and its answer, the request is read
//! into a buffer of 8 KiB through four more boxes, the answer written through as many. That costs more than a
//! validation does. This layer takes the calls that are as plain as nearly all are: one uncompressed message that
//! has arrived whole. Whatever else comes (in pieces, compressed, cut short, too long) goes on to tonic
//! with every byte that was read, so that there is one opinion about what is malformed: tonic's.

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
use prost::Message as _;
use tonic::{Status, body::Body, metadata::GRPC_CONTENT_TYPE};
use tower::{Layer, Service};

use super::{convert, error_status, layers::RequestId, pb::ValidateTokenRequest};
use crate::auth::{Auth, AuthError, ValidateQuery};

const PATH: &str = "/countersign.auth.v1.AuthService/ValidateToken";
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// A message's prefix: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// No token that can be good makes a longer request; what is longer is tonic's to refuse.
const LONGEST: usize = 64 * 1024;

/// Answers plain calls of `ValidateToken`; for the innermost place, around the router.
#[derive(Clone)]
pub struct FastLane {
    auth: Auth,
}

impl FastLane {
    /// Serves validation by `auth`.
    pub const fn new(auth: Auth) -> Self {
        Self { auth }
    }
}

impl<S> Layer<S> for FastLane {
    type Service = FastLaneService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        FastLaneService {
            auth: self.auth.clone(),
            inner,
        }
    }
}

/// The service of [`FastLane`].
#[derive(Clone)]
pub struct FastLaneService<S> {
    auth: Auth,
    inner: S,
}

impl<S> Service<Request<Body>> for FastLaneService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = FastLaneFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path() != PATH || request.headers().contains_key(ENCODING) {
            return FastLaneFuture::Ordinary {
                answer: self.inner.call(request),
            };
        }
        let (head, body) = request.into_parts();
        FastLaneFuture::Plain {
            call: Some(Call {
                head,
                body,
                message: Bytes::new(),
                service: self.clone(),
            }),
        }
    }
}

/// A call that is plain so far.
struct Call<S> {
    head: Parts,
    body: Body,
    /// What has arrived: nothing, or one frame.
    message: Bytes,
    service: FastLaneService<S>,
}

/// What a look at the next frame told.
enum Arrived {
    /// The whole message, and nothing after it.
    Message,
    /// Something that is not plain.
    Odd(Option<Result<Frame<Bytes>, Status>>),
}

impl<S> Call<S> {
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Arrived> {
        while !self.body.is_end_stream() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                None => break,
                Some(Err(error)) => return Poll::Ready(Arrived::Odd(Some(Err(error)))),
            };
            match frame.into_data() {
                Ok(data) if self.message.is_empty() => self.message = data,
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Poll::Ready(Arrived::Odd(Some(Ok(Frame::data(data))))),
                Err(frame) => return Poll::Ready(Arrived::Odd(Some(Ok(frame)))),
            }
        }
        Poll::Ready(match plain(&self.message) {
            true => Arrived::Message,
            false => Arrived::Odd(None),
        })
    }

    fn answer(self) -> Response<Body> {
        let message = self.message.slice(PREFIX..);
        let answered = ValidateTokenRequest::decode(message)
            // tonic's words for the same.
            .map_err(|error| Status::internal(error.to_string()))
            .and_then(|request| {
                respond(&self.service.auth, &request, &self.head.headers)
                    .map_err(|error| error_status(error, &RequestId::of(&self.head.extensions)))
            });
        match answered {
            Ok(data) => {
                let mut response = Response::new(Body::new(Answer {
                    data: Some(data),
                    ended: false,
                }));
                let headers = response.headers_mut();
                headers.insert(CONTENT_TYPE, GRPC_CONTENT_TYPE);
                response
            }
            Err(status) => status.into_http(),
        }
    }
}

impl<S: Service<Request<Body>>> Call<S> {
    fn go_on(self, next: Option<Result<Frame<Bytes>, Status>>) -> S::Future {
        let first = (!self.message.is_empty()).then(|| Ok(Frame::data(self.message)));
        let body = Replayed {
            read: [first, next],
            rest: self.body,
        };
        let mut inner = self.service.inner;
        inner.call(Request::from_parts(self.head, Body::new(body)))
    }
}

/// Whether it is one message, whole and not compressed.
fn plain(message: &[u8]) -> bool {
    let Some((&[compressed, a, b, c, d], rest)) = message.split_first_chunk::<PREFIX>() else {
        return false;
    };
    let length = u32::from_be_bytes([a, b, c, d]);
    compressed == 0 && rest.len() <= LONGEST && u32::try_from(rest.len()) == Ok(length)
}

/// The answer to a request, in its gRPC frame.
fn respond(
    auth: &Auth,
    request: &ValidateTokenRequest,
    headers: &HeaderMap,
) -> Result<Bytes, AuthError> {
    let validated = auth.validate(query(request, headers))?;
    let spelling = validated
        .claims
        .spelling(|claims| convert::claims(claims, auth.issuer()).encode_to_vec());
    let as_of = convert::timestamp(validated.revocation_as_of);
    let mut framed = BytesMut::with_capacity(PREFIX + spelling.len() + 32);
    framed.put_bytes(0, PREFIX);
    framed.put_slice(spelling);
    // Protobuf's fields come in any order and place, so the one that changes is put at the end.
    prost::encoding::message::encode(9, &as_of, &mut framed);
    let length = u32::try_from(framed.len() - PREFIX).expect("no longer than a token");
    framed[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    Ok(framed.freeze())
}

/// What a request asks: about its own token, or about that of its `authorization`.
pub(super) fn query<'a>(
    request: &'a ValidateTokenRequest,
    headers: &'a HeaderMap,
) -> ValidateQuery<'a> {
    ValidateQuery {
        access_token: match request.access_token.as_str() {
            "" => convert::bearer(headers),
            token => token,
        },
        audience: &request.audience,
        required_roles: &request.required_roles,
    }
}

pin_project! {
    /// The future of [`FastLaneService`].
    #[project = Projection]
    pub enum FastLaneFuture<S: Service<Request<Body>>> {
        // It may yet turn out to be odd.
        Plain { call: Option<Call<S>> },
        // tonic answers.
        Ordinary {
            #[pin]
            answer: S::Future,
        },
    }
}

impl<S> Future for FastLaneFuture<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let odd = match self.as_mut().project() {
                Projection::Ordinary { answer } => return answer.poll(cx),
                Projection::Plain { call } => {
                    let waiting = call.as_mut().expect("polled after it was ready");
                    let arrived = ready!(waiting.poll_message(cx));
                    let call = call.take().expect("it was there a moment ago");
                    match arrived {
                        Arrived::Message => return Poll::Ready(Ok(call.answer())),
                        Arrived::Odd(next) => call.go_on(next),
                    }
                }
            };
            self.set(Self::Ordinary { answer: odd });
        }
    }
}

/// One message, and the trailers that say all went well.
struct Answer {
    data: Option<Bytes>,
    ended: bool,
}

impl HttpBody for Answer {
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

/// A body of which a part had been read before it was decided that tonic shall read it.
struct Replayed {
    read: [Option<Result<Frame<Bytes>, Status>>; 2],
    rest: Body,
}

impl HttpBody for Replayed {
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

//! Counts the calls of each connection, and ends their response streams when the connection has to close.
//!
//! A stream such as `WatchRevocations` has no end of its own. If the connection was simply dropped, some clients would
//! report a cancelled call, which is not retried. So the stream ends with `CONNECTION_CLOSING` (UNAVAILABLE).

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tower::{Layer, Service};

use crate::grpc::RequestId;
use crate::grpc::{Detail, Reason, status};

/// How soon a caller whose stream was ended should call again.
const RETRY: Duration = Duration::from_millis(100);

/// The calls of one connection. `server` puts it into the extensions of each request.
#[derive(Clone, Debug)]
pub struct ConnectionCalls(Arc<Calls>);

#[derive(Debug)]
struct Calls {
    streams_end: CancellationToken,
    under_way: AtomicUsize,
    open: AtomicUsize,
    begun: AtomicUsize,
}

impl ConnectionCalls {
    /// A connection without calls, whose streams end when `draining` is cancelled.
    pub fn new(draining: &CancellationToken) -> Self {
        Self(Arc::new(Calls {
            streams_end: draining.child_token(),
            under_way: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
        }))
    }

    /// Ends all response streams of the connection.
    pub fn end_streams(&self) {
        self.0.streams_end.cancel();
    }

    /// How many calls wait for their response, or for the end of one that is not a stream.
    pub fn under_way(&self) -> usize {
        self.0.under_way.load(Ordering::Relaxed)
    }

    /// How many calls have not ended, streams included.
    pub fn open(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }

    /// How many calls have begun so far; wraps around.
    pub fn begun(&self) -> usize {
        self.0.begun.load(Ordering::Relaxed)
    }
}

/// Counts as a call that has not ended until it is dropped.
struct Open(ConnectionCalls);

impl Open {
    fn begin(calls: ConnectionCalls) -> Self {
        calls.0.begun.fetch_add(1, Ordering::Relaxed);
        calls.0.open.fetch_add(1, Ordering::Relaxed);
        Self(calls)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts as a call in progress until it is dropped.
struct CallInProgress(ConnectionCalls);

impl CallInProgress {
    fn begin(calls: ConnectionCalls) -> Self {
        calls.0.under_way.fetch_add(1, Ordering::Relaxed);
        Self(calls)
    }
}

impl Drop for CallInProgress {
    fn drop(&mut self) {
        self.0.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts calls by the [`ConnectionCalls`] in their extensions, and ends their streams by it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectionCallsLayer;

impl<S> Layer<S> for ConnectionCallsLayer {
    type Service = ConnectionCallsService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ConnectionCallsService { inner }
    }
}

/// The service of [`ConnectionCallsLayer`].
#[derive(Clone, Debug)]
pub struct ConnectionCallsService<S> {
    inner: S,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for ConnectionCallsService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = Response<EndableBody<ResBody>>;
    type Error = S::Error;
    type Future = ConnectionCallsFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let calls = request.extensions_mut().remove();
        let call = calls.map(|calls: ConnectionCalls| Call {
            under_way: CallInProgress::begin(calls.clone()),
            open: Open::begin(calls),
            request_id: RequestId::of(request.extensions()),
        });
        ConnectionCallsFuture {
            inner: self.inner.call(request),
            call,
        }
    }
}

struct Call {
    under_way: CallInProgress,
    open: Open,
    request_id: RequestId,
}

pin_project! {
    /// The future of [`ConnectionCallsService`].
    pub struct ConnectionCallsFuture<F> {
        #[pin]
        inner: F,
        call: Option<Call>,
    }
}

impl<F, E, ResBody> Future for ConnectionCallsFuture<F>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
{
    type Output = Result<Response<EndableBody<ResBody>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?;
        Poll::Ready(Ok(response.map(|inner| EndableBody {
            inner,
            call: this.call.take(),
            stream: None,
            ended: false,
        })))
    }
}

pin_project! {
    /// A response body that ends when its connection has to close, if it is a stream.
    pub struct EndableBody<B> {
        #[pin]
        inner: B,
        // The call, until the body has to wait for its next part. Only streams do: the response of a unary call is
        // complete when it begins.
        call: Option<Call>,
        #[pin]
        stream: Option<EndOfStream>,
        ended: bool,
    }
}

pin_project! {
    struct EndOfStream {
        #[pin]
        connection_closes: WaitForCancellationFutureOwned,
        request_id: RequestId,
        _open: Open,
    }
}

impl<B: Default> Default for EndableBody<B> {
    fn default() -> Self {
        Self {
            inner: B::default(),
            call: None,
            stream: None,
            ended: false,
        }
    }
}

impl<B: Body> Body for EndableBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut this = self.project();
        if *this.ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = this.inner.poll_frame(cx) {
            return Poll::Ready(frame);
        }
        // From now on it is a stream, and no call under way: nobody waits for the end of a stream.
        if let Some(Call {
            under_way,
            open,
            request_id,
        }) = this.call.take()
        {
            let connection_closes = under_way.0.0.streams_end.clone().cancelled_owned();
            this.stream.set(Some(EndOfStream {
                connection_closes,
                request_id,
                _open: open,
            }));
        }
        let Some(stream) = this.stream.as_pin_mut() else {
            return Poll::Pending;
        };
        let stream = stream.project();
        ready!(stream.connection_closes.poll(cx));
        *this.ended = true;
        Poll::Ready(Some(Ok(Frame::trailers(trailers(stream.request_id)))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn trailers(request_id: &RequestId) -> HeaderMap {
    let detail = Detail::RetryAfter(RETRY);
    let status = status(Reason::ConnectionClosing, request_id, detail);
    let mut trailers = HeaderMap::new();
    // It fails for metadata that is no valid header; ours always is.
    let _ = status.add_header(&mut trailers);
    trailers
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, pin::pin};

    use bytes::Bytes;
    use futures_util::{FutureExt as _, stream};
    use http_body_util::{BodyExt as _, Empty, StreamBody};
    use tonic::{Code, Status};
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    /// The response body of a call on this connection.
    async fn body<B: Body>(calls: &ConnectionCalls, make: fn() -> B) -> Pin<Box<EndableBody<B>>> {
        let service =
            service_fn(
                move |_: Request<()>| async move { Ok::<_, Infallible>(Response::new(make())) },
            );
        let mut request = Request::new(());
        request.extensions_mut().insert(calls.clone());
        let response = ConnectionCallsLayer.layer(service).oneshot(request).await;
        Box::pin(response.unwrap().into_body())
    }

    fn endless() -> impl Body<Data = Bytes, Error = Infallible> {
        StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>())
    }

    #[tokio::test]
    async fn a_stream_ends_with_a_retriable_status_when_its_connection_closes() {
        let calls = ConnectionCalls::new(&CancellationToken::new());
        let mut body = pin!(body(&calls, endless).await);
        let closes = async {
            tokio::task::yield_now().await;
            calls.end_streams();
        };
        let (frame, ()) = tokio::join!(body.frame(), closes);
        let trailers = frame.unwrap().unwrap().into_trailers().unwrap();
        let status = Status::from_header_map(&trailers).unwrap();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn the_drain_of_the_server_ends_the_streams_of_every_connection() {
        let draining = CancellationToken::new();
        let calls = ConnectionCalls::new(&draining);
        let mut body = pin!(body(&calls, endless).await);
        draining.cancel();
        assert!(body.frame().await.unwrap().unwrap().is_trailers());
    }

    #[tokio::test]
    async fn a_call_is_under_way_until_its_response_is_dropped_or_waits() {
        let calls = ConnectionCalls::new(&CancellationToken::new());
        let unary = body(&calls, Empty::<Bytes>::new).await;
        let mut stream = pin!(body(&calls, endless).await);
        assert_eq!(calls.under_way(), 2);
        drop(unary);
        assert_eq!(calls.under_way(), 1);
        assert!(stream.frame().now_or_never().is_none());
        assert_eq!((calls.under_way(), calls.open()), (0, 1));
        stream.set(body(&calls, endless).await);
        assert_eq!(
            (calls.open(), calls.begun()),
            (1, 3),
            "the first stream is dropped"
        );
    }
}

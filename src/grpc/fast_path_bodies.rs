//! The bodies of the fast path: its responses, and requests that it passes on.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Status, body::Body};

/// A response body: one message, and the trailers with status OK.
pub(super) struct OneMessage {
    data: Option<Bytes>,
    ended: bool,
}

impl OneMessage {
    /// Of a message in its gRPC frame.
    pub(super) const fn new(data: Bytes) -> Self {
        Self {
            data: Some(data),
            ended: false,
        }
    }
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
pub(super) struct ReplayedBody {
    read: [Option<Result<Frame<Bytes>, Status>>; 2],
    rest: Body,
}

impl ReplayedBody {
    /// Of what was read, in its order, and the rest.
    pub(super) const fn new(read: [Option<Result<Frame<Bytes>, Status>>; 2], rest: Body) -> Self {
        Self { read, rest }
    }
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

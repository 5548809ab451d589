//! The body of a request, with one error for every way in which a caller can leave before its end.
//!
//! Without it tonic answers such calls with INTERNAL, UNKNOWN or as if the body were complete, depending
//! on what hyper makes of the connection's end: it reports RST_STREAM with CANCEL or NO_ERROR as an
//! ordinary end of the body, and anything else as an error. It also counts what arrives (see `request_memory`).

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::Status;

use super::{
    protocol_error::{caller_gone, request_memory_full},
    request_memory::MemoryShare,
};

pin_project! {
    /// A body that fails with [`caller_gone`] unless it ends with END_STREAM, and with [`request_memory_full`] when there
    /// is no memory for it.
    pub(super) struct RequestBody<B> {
        #[pin]
        inner: B,
        memory: MemoryShare,
        failed: bool,
    }
}

impl<B> RequestBody<B> {
    pub(super) const fn new(inner: B, memory: MemoryShare) -> Self {
        Self {
            inner,
            memory,
            failed: false,
        }
    }
}

impl<B: Body<Data = Bytes>> Body for RequestBody<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut this = self.project();
        if *this.failed {
            return Poll::Ready(None);
        }
        match ready!(this.inner.as_mut().poll_frame(cx)) {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                if this.memory.add(length) {
                    return Poll::Ready(Some(Ok(frame)));
                }
                *this.failed = true;
                Poll::Ready(Some(Err(request_memory_full())))
            }
            None if this.inner.is_end_stream() => Poll::Ready(None),
            None | Some(Err(_)) => {
                *this.failed = true;
                Poll::Ready(Some(Err(caller_gone())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.failed || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

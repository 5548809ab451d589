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
use http::Request;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::{Status, body::Body as TonicBody};

use super::{
    layers::header_size,
    protocol_error::{caller_gone, request_memory_full},
    request_memory::{MemoryShare, PeerMemory},
};

/// The request with a body that counts, in `memory`, the headers and what arrives.
pub fn count_request<B>(request: Request<B>, memory: &PeerMemory) -> Request<TonicBody>
where
    B: Body<Data = Bytes> + Send + 'static,
{
    // The decoder of header fields reserves twice the length of a compressed value.
    let headers = 2 * header_size(request.uri().path(), request.headers());
    request.map(|inner| TonicBody::new(RequestBody::new(inner, memory.share(), headers)))
}

pin_project! {
    /// A body that fails with [`caller_gone`] unless it ends with END_STREAM, and with [`request_memory_full`] when there
    /// is no memory for it.
    struct RequestBody<B> {
        #[pin]
        inner: B,
        memory: MemoryShare,
        has_room: bool,
        headers: usize,
        messages: Messages,
        failed: bool,
    }
}

impl<B> RequestBody<B> {
    fn new(inner: B, mut memory: MemoryShare, headers: usize) -> Self {
        Self {
            inner,
            has_room: memory.add(headers),
            memory,
            headers,
            messages: Messages::default(),
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
        if !*this.has_room {
            *this.failed = true;
            return Poll::Ready(Some(Err(request_memory_full())));
        }
        match ready!(this.inner.as_mut().poll_frame(cx)) {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    // More is read only when the messages before have been taken.
                    this.memory
                        .shrink_to(*this.headers + this.messages.unfinished);
                    *this.has_room = this.memory.add(data.len());
                    this.messages.read(data);
                }
                if *this.has_room {
                    return Poll::Ready(Some(Ok(frame)));
                }
                *this.failed = true;
                Poll::Ready(Some(Err(request_memory_full())))
            }
            None if this.inner.is_end_stream() => {
                // It has arrived. A call whose messages are a stream keeps the body for longer.
                this.memory.shrink_to(0);
                Poll::Ready(None)
            }
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

/// Where the messages of a body end: each begins with a flag and its length in four bytes. Text that is not framed so
/// (gRPC-Web in base64) reads as a message that does not end.
#[derive(Debug, Default)]
struct Messages {
    prefix: [u8; 5],
    prefix_read: usize,
    /// Bytes of the message that are missing, once its prefix is read.
    missing: usize,
    /// Bytes that have arrived of a message that is not complete.
    unfinished: usize,
}

impl Messages {
    fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let needed = self.prefix.len() - self.prefix_read;
            let wanted = if needed > 0 { needed } else { self.missing };
            let (part, rest) = bytes.split_at(wanted.min(bytes.len()));
            bytes = rest;
            self.unfinished += part.len();
            if needed > 0 {
                self.prefix[self.prefix_read..][..part.len()].copy_from_slice(part);
                self.prefix_read += part.len();
                let [_, a, b, c, d] = self.prefix;
                self.missing = u32::from_be_bytes([a, b, c, d]) as usize;
            } else {
                self.missing -= part.len();
            }
            if self.prefix_read == self.prefix.len() && self.missing == 0 {
                *self = Self::default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(length: u32) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(length.to_be_bytes());
        bytes.resize(5 + length as usize, b'x');
        bytes
    }

    proptest! {
        #[test]
        fn only_what_follows_the_last_complete_message_is_unfinished(
            lengths in prop::collection::vec(0_u32..40, 0..8),
            cut in 0_usize..45,
            frame in 1_usize..20,
        ) {
            let mut bytes: Vec<u8> = lengths.into_iter().flat_map(message).collect();
            let tail = &message(40)[..cut % 45];
            bytes.extend(tail);
            let mut messages = Messages::default();
            for frame in bytes.chunks(frame) {
                messages.read(frame);
            }
            prop_assert_eq!(messages.unfinished, tail.len());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut messages = Messages::default();
            messages.read(&bytes);
            prop_assert!(messages.unfinished <= bytes.len());
        }
    }

    #[test]
    fn base64_is_an_incomplete_message() {
        let mut messages = Messages::default();
        messages.read(&b"AAAAAAA+/".repeat(100));
        assert_eq!(messages.unfinished, 900);
    }
}

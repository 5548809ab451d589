//! Reads SQLSTATEs off the wire: diesel keeps the text of an error, and its code only for a few.
//!
//! A stream between tokio-postgres and the socket looks at the head of each message that the server sends
//! (PostgreSQL manual, "Message Formats"), and reads two kinds: `ErrorResponse` for its code, `BackendKeyData` for the
//! process that a pooler would hide.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{
    error::SqlState,
    tls::{ChannelBinding, TlsStream},
};

const ERROR_RESPONSE: u8 = b'E';
const BACKEND_KEY_DATA: u8 = b'K';
/// The code stands near the beginning of an error, before its texts.
const MAX_KEPT: usize = 256;

/// What was seen on a connection; shared between its stream and its owner.
#[derive(Debug, Default)]
pub(in crate::store) struct Observed {
    /// The five characters of the last SQLSTATE, or 0.
    code: AtomicU64,
    /// The process id of `BackendKeyData`.
    key_process: AtomicU32,
}

impl Observed {
    /// Forgets earlier errors: an operation begins.
    pub(in crate::store) fn clear(&self) {
        self.code.store(0, Ordering::Relaxed);
    }

    /// The SQLSTATE of the error that the operation met, if the server reported one.
    pub(in crate::store) fn code(&self) -> Option<SqlState> {
        let bytes = self.code.load(Ordering::Relaxed).to_be_bytes();
        let code = std::str::from_utf8(&bytes[3..]).ok()?;
        (bytes[3] != 0).then(|| SqlState::from_code(code))
    }

    /// The process that the server named when the connection began; behind a pooler it is made up.
    pub(super) fn key_process(&self) -> u32 {
        self.key_process.load(Ordering::Relaxed)
    }

    fn note(&self, kind: u8, body: &[u8]) {
        match kind {
            ERROR_RESPONSE => {
                // What follows the first error of a transaction says only that there was one.
                if let Some(code) = code_of(body).filter(|code| code != b"25P02") {
                    let mut bytes = [0; 8];
                    bytes[3..].copy_from_slice(&code);
                    self.code
                        .store(u64::from_be_bytes(bytes), Ordering::Relaxed);
                }
            }
            _ => {
                if let Some(process) = body.first_chunk::<4>() {
                    let process = u32::from_be_bytes(*process);
                    self.key_process.store(process, Ordering::Relaxed);
                }
            }
        }
    }
}

/// The field `C` of an `ErrorResponse`: fields are a type and a text that ends with 0.
fn code_of(body: &[u8]) -> Option<[u8; 5]> {
    let mut fields = body.split(|byte| *byte == 0);
    let code = fields.find_map(|field| field.strip_prefix(b"C"))?;
    code.try_into().ok()
}

/// Follows the messages through chunks of any length.
#[derive(Debug)]
struct Messages {
    head: [u8; 5],
    /// How much of the head is there.
    filled: usize,
    /// How much of the body is still to come, once the head is there.
    rest: usize,
    /// The beginning of the body, of a message that is read.
    body: Vec<u8>,
}

impl Messages {
    fn new() -> Self {
        let (head, body) = ([0; 5], Vec::new());
        let (filled, rest) = (0, 0);
        Self {
            head,
            filled,
            rest,
            body,
        }
    }

    fn follow(&mut self, mut bytes: &[u8], observed: &Observed) {
        while !bytes.is_empty() {
            if self.filled < self.head.len() {
                let taken = bytes.len().min(self.head.len() - self.filled);
                self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
                self.filled += taken;
                bytes = &bytes[taken..];
                if self.filled < self.head.len() {
                    return;
                }
                let [_, length @ ..] = self.head;
                // The length counts itself.
                self.rest = usize::try_from(u32::from_be_bytes(length).saturating_sub(4))
                    .unwrap_or(usize::MAX);
                self.body.clear();
            }
            let taken = bytes.len().min(self.rest);
            if matches!(self.head[0], ERROR_RESPONSE | BACKEND_KEY_DATA) {
                let kept = taken.min(MAX_KEPT - self.body.len());
                self.body.extend_from_slice(&bytes[..kept]);
            }
            self.rest -= taken;
            bytes = &bytes[taken..];
            if self.rest == 0 {
                if matches!(self.head[0], ERROR_RESPONSE | BACKEND_KEY_DATA) {
                    observed.note(self.head[0], &self.body);
                }
                self.filled = 0;
            }
        }
    }
}

/// A stream to a server, of which every message is looked at.
pub(in crate::store) struct ObservedStream<S> {
    inner: S,
    messages: Messages,
    observed: Arc<Observed>,
}

impl<S> ObservedStream<S> {
    pub(super) fn new(inner: S, observed: Arc<Observed>) -> Self {
        let messages = Messages::new();
        Self {
            inner,
            messages,
            observed,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ObservedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.inner).poll_read(cx, buf);
        if polled.is_ready() {
            this.messages
                .follow(&buf.filled()[before..], &this.observed);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ObservedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S: TlsStream + Unpin> TlsStream for ObservedStream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.inner.channel_binding()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind][..], &length.to_be_bytes(), body].concat()
    }

    fn error(code: &str) -> Vec<u8> {
        let body = format!("SFEHLER\0VERROR\0C{code}\0MUnzul\u{e4}ssig, C25P02\0Ffile.c\0\0");
        message(b'E', body.as_bytes())
    }

    fn code_after(chunks: &[&[u8]]) -> Option<String> {
        let (observed, mut messages) = (Observed::default(), Messages::new());
        for chunk in chunks {
            messages.follow(chunk, &observed);
        }
        observed.code().map(|code| code.code().to_owned())
    }

    #[test]
    fn the_code_of_an_error_is_read_in_any_language() {
        let sent = [message(b'Z', b"I"), error("57P01"), message(b'Z', b"I")].concat();
        assert_eq!(code_after(&[&sent]).as_deref(), Some("57P01"));
        assert_eq!(code_after(&[&message(b'Z', b"I")]), None);
        let followed = [error("40001"), error("25P02")].concat();
        assert_eq!(code_after(&[&followed]).as_deref(), Some("40001"));
    }

    #[test]
    fn data_that_looks_like_an_error_is_not_one() {
        let row = message(b'D', &error("57P01"));
        assert_eq!(code_after(&[&row]), None);
    }

    #[test]
    fn an_operation_begins_without_a_code_and_knows_its_process() {
        let (observed, mut messages) = (Observed::default(), Messages::new());
        messages.follow(&error("53100"), &observed);
        observed.clear();
        assert_eq!(observed.code(), None);
        messages.follow(&message(b'K', &[0, 0, 1, 2, 9, 9, 9, 9]), &observed);
        assert_eq!(observed.key_process(), 258);
    }

    proptest! {
        #[test]
        fn however_the_bytes_are_cut_the_code_is_the_same(cuts in prop::collection::vec(1_usize..9, 1..80)) {
            let sent = [message(b'D', &[7; 40]), error("53300"), message(b'Z', b"E")].concat();
            let mut rest = &sent[..];
            let mut chunks = Vec::new();
            for cut in cuts {
                let (chunk, after) = rest.split_at(cut.min(rest.len()));
                chunks.push(chunk);
                rest = after;
            }
            chunks.push(rest);
            prop_assert_eq!(code_after(&chunks), Some("53300".to_owned()));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>(), more in any::<Vec<u8>>()) {
            let _ = code_after(&[&bytes, &more]);
        }
    }
}

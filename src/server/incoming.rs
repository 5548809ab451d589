//! The connections that one thread of the front is given: counted while they are open.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::Stream;
use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// One of a thread's connections holds one of these.
type Place = Arc<()>;

/// A connection between two threads, which no runtime watches.
type Loose = (std::net::TcpStream, Place);

/// Where connections for a thread are put down.
pub(super) struct Desk {
    put_down: UnboundedSender<Loose>,
    places: Place,
}

/// The connections for a thread, as they come. They belong to the runtime on which this is polled.
pub(super) struct Incoming(UnboundedReceiver<Loose>);

pin_project! {
    /// A connection.
    pub(super) struct Connection {
        #[pin]
        stream: TcpStream,
        place: Place,
    }
}

/// A desk, and what is put down there.
pub(super) fn desk() -> (Desk, Incoming) {
    let (put_down, picked_up) = unbounded_channel();
    let places = Place::default();
    (Desk { put_down, places }, Incoming(picked_up))
}

impl Desk {
    /// How many connections were put down here and are not closed yet.
    pub(super) fn load(&self) -> usize {
        Arc::strong_count(&self.places) - 1
    }

    /// Gives a connection to the thread. One that is broken already is dropped.
    pub(super) fn put_down(&self, connection: TcpStream) {
        if let Ok(stream) = connection.into_std() {
            let _ = self.put_down.send((stream, Arc::clone(&self.places)));
        }
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.0.poll_recv(cx));
        Poll::Ready(next.map(|(stream, place)| {
            TcpStream::from_std(stream).map(|stream| Connection { stream, place })
        }))
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.project().stream.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_shutdown(cx)
    }
}

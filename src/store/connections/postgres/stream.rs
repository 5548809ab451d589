//! One stream to one server: TCP or a Unix socket, encrypted as the URL says, observed.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::observer::{Observed, ObservedStream};
use crate::config::{Keepalive, PostgresTls, TlsMode};

/// An address of a server, after its name was looked up.
#[derive(Clone, Debug)]
pub(super) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Bytes both ways.
pub(in crate::store) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

type Socket = Box<dyn Duplex>;
type Encrypted = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// What tokio-postgres speaks over.
pub(super) type PostgresStream = ObservedStream<Wire>;

/// A connection, encrypted or not.
pub(in crate::store) enum Wire {
    Plain(Socket),
    Encrypted(Box<Encrypted>),
}

/// How to open streams to servers.
#[derive(Clone)]
pub(super) struct Dialer {
    pub tls: PostgresTls,
    pub keepalive: Keepalive,
    pub encrypt: Option<MakeRustlsConnect>,
}

impl Dialer {
    /// Opens a stream; `name` is what the certificate has to name.
    pub async fn open(
        &self,
        address: &Address,
        name: &str,
        observed: Arc<Observed>,
    ) -> io::Result<PostgresStream> {
        let wire = match address {
            Address::Unix(path) => Wire::Plain(Box::new(UnixStream::connect(path).await?)),
            Address::Tcp(address) => self.encrypt(self.tcp(*address).await?, name).await?,
        };
        Ok(ObservedStream::new(wire, observed))
    }

    async fn tcp(&self, address: SocketAddr) -> io::Result<Socket> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let Keepalive {
            is_on,
            idle,
            interval,
            retries,
            user_timeout,
        } = self.keepalive;
        let socket = SockRef::from(&stream);
        if is_on {
            let probes = TcpKeepalive::new().with_time(idle).with_interval(interval);
            socket.set_tcp_keepalive(&probes.with_retries(retries))?;
        }
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(user_timeout))?;
        #[cfg(not(target_os = "linux"))]
        let _ = user_timeout;
        Ok(Box::new(stream))
    }

    async fn encrypt(&self, mut socket: Socket, name: &str) -> io::Result<Wire> {
        let Some(mut encrypt) = self.encrypt.clone() else {
            return Ok(Wire::Plain(socket));
        };
        if !self.tls.is_direct && !agrees_to_tls(&mut socket).await? {
            return match self.tls.mode {
                TlsMode::Disable | TlsMode::Prefer => Ok(Wire::Plain(socket)),
                _ => Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "the server does not support TLS, which sslmode demands",
                )),
            };
        }
        let Ok(connect) = MakeTlsConnect::<Socket>::make_tls_connect(&mut encrypt, name);
        let encrypted = connect.connect(socket).await?;
        Ok(Wire::Encrypted(Box::new(encrypted)))
    }
}

/// Asks for TLS (`SSLRequest`).
async fn agrees_to_tls(socket: &mut Socket) -> io::Result<bool> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    socket.write_all(&request).await?;
    Ok(socket.read_u8().await? == b'S')
}

/// The path of a socket in `folder`, as PostgreSQL names it.
pub(super) fn socket_path(folder: &Path, port: u16) -> PathBuf {
    folder.join(format!(".s.PGSQL.{port}"))
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Encrypted(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Encrypted(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Encrypted(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Encrypted(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl TlsStream for Wire {
    fn channel_binding(&self) -> ChannelBinding {
        match self {
            Self::Plain(_) => ChannelBinding::none(),
            Self::Encrypted(stream) => stream.channel_binding(),
        }
    }
}

/// Tells tokio-postgres that the stream is encrypted already, as far as it is going to be.
pub(super) struct Established;

impl<S: TlsStream + Unpin> TlsConnect<S> for Established {
    type Stream = S;
    type Error = Infallible;
    type Future = Ready<Result<S, Infallible>>;

    fn connect(self, stream: S) -> Self::Future {
        ready(Ok(stream))
    }
}

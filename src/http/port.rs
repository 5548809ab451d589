//! The HTTP port: how many connections it holds, and how long each may take.
//!
//! Anybody can connect, so each connection is bounded in memory and in time. `axum::serve` has no such bounds; hyper has.

use std::{io, net::SocketAddr, time::Duration};

use axum::Router;
use http::Request;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::{Acceptor, ClientAddress, Place, Places, Site};
use crate::{
    config::ServingSettings,
    tls::{Refusals, TlsPort, TlsState},
};

/// How long a connection is kept, however busy it is. This also ends connections whose peer does not read.
const LIFE: Duration = Duration::from_secs(60);
/// How long a request may still take once its connection has to end.
const CLOSING_TIME: Duration = Duration::from_secs(2);

/// The bounds of the port. Only the OAuth endpoints read a body, and bound it; elsewhere hyper closes the connection when a
/// body has not arrived together with its headers.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Connections at the same time; further ones wait in the queue of the system.
    pub connections: usize,
    /// How many of them one peer address may hold, trusted proxies apart; `None`: all.
    pub per_peer: Option<usize>,
    /// How long the headers of a request may take, the wait for it on an open connection included.
    pub header_time: Duration,
    /// Bytes of the headers; hyper's minimum is 8 KiB.
    pub header_bytes: usize,
    /// How long a connection is kept.
    pub life: Duration,
    /// How long a request may still take once its connection has to end.
    pub closing_time: Duration,
}

impl HttpLimits {
    /// The limits for so many connections, of which an address may hold a quarter, or all if addresses have no share.
    pub fn new(connections: usize, has_shares: bool, settings: &ServingSettings) -> Self {
        Self {
            connections,
            per_peer: Places::share_of(connections, None).filter(|_| has_shares),
            header_time: settings.handshake_timeout,
            header_bytes: settings.max_header_size as usize,
            life: LIFE,
            closing_time: CLOSING_TIME.min(settings.drain_timeout),
        }
    }
}

/// What a connection begins with.
#[derive(Clone, Debug)]
enum PortTls {
    On(TlsState),
    /// Without TLS. Clients that use TLS nevertheless are counted.
    Off(Refusals),
}

/// A port that is bound, but not served yet.
#[derive(Debug)]
pub struct HttpPort {
    listener: TcpListener,
    address: SocketAddr,
}

impl HttpPort {
    /// Binds the port.
    ///
    /// # Errors
    /// The system does not let us.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The address that was bound; it differs from the configured one when that has port 0.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is cancelled; then closes the port, lets requests under way end within the closing time,
    /// and returns.
    pub async fn serve(self, site: Site, limits: HttpLimits, stop: CancellationToken) {
        let tls = match site.tls.clone() {
            Some(tls) => PortTls::On(tls),
            None => PortTls::Off(site.refusals.clone()),
        };
        let places = Places::new(limits.per_peer, site.trusted_proxies.clone());
        accept(self.listener, site.into_router(), tls, limits, places, stop).await;
    }
}

async fn accept(
    listener: TcpListener,
    router: Router,
    tls: PortTls,
    limits: HttpLimits,
    places: Places,
    stop: CancellationToken,
) {
    let mut connections = JoinSet::new();
    let mut acceptor = Acceptor::new(listener);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            stream = acceptor.next(), if connections.len() < limits.connections => {
                // A peer that is gone already has no address.
                if let Some(place) = stream.peer_addr().ok().and_then(|peer| places.take(peer)) {
                    let (router, tls, stop) = (router.clone(), tls.clone(), stop.clone());
                    connections.spawn(open(stream, place, router, tls, limits, stop));
                }
            }
        }
    }
    drop(acceptor);
    while connections.join_next().await.is_some() {}
}

async fn open(
    stream: TcpStream,
    place: Place,
    router: Router,
    tls: PortTls,
    limits: HttpLimits,
    stop: CancellationToken,
) {
    let peer = place.peer;
    let client = ClientAddress::from(peer.ip());
    match tls {
        PortTls::Off(refusals) => {
            let mut first = [0];
            let patience = limits.header_time.min(limits.life);
            let peeked = tokio::select! {
                peeked = timeout(patience, stream.peek(&mut first)) => peeked,
                () = stop.cancelled() => return,
            };
            // The client may also be silent, or gone.
            let Ok(Ok(1)) = peeked else { return };
            refusals.count_tls_client_hello(&first, peer);
            serve_connection(stream, client, router, limits, stop).await;
        }
        PortTls::On(tls) => {
            let accepted = tokio::select! {
                accepted = tls.accept(TlsPort::Http, stream, peer, limits.header_time) => accepted,
                () = stop.cancelled() => return,
            };
            if let Some(accepted) = accepted {
                serve_connection(accepted.stream, client, router, limits, stop).await;
            }
        }
    }
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    client: ClientAddress,
    router: Router,
    limits: HttpLimits,
    stop: CancellationToken,
) {
    let service = router.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(client);
        request
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(limits.header_bytes)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // The peer has closed it, or has broken the protocol.
        _ = connection.as_mut() => return,
        () = stop.cancelled() => {}
        () = sleep(limits.life) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(limits.closing_time, connection).await;
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        task::JoinHandle,
    };

    use super::*;

    /// How long a test waits for what must happen.
    const PATIENCE: Duration = Duration::from_secs(20);
    const LONG: Duration = Duration::from_secs(3600);
    const SHORT: Duration = Duration::from_millis(50);
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    const LENIENT: HttpLimits = HttpLimits {
        connections: 8,
        per_peer: None,
        header_time: LONG,
        header_bytes: 8 * 1024,
        life: LONG,
        closing_time: LONG,
    };

    struct Fixture {
        address: SocketAddr,
        stop: CancellationToken,
        ended: JoinHandle<()>,
    }

    /// A served port. The page `/long` is larger than the socket buffers, so it blocks if the peer does not read.
    async fn fixture(limits: HttpLimits) -> Fixture {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/long", get(|| async { "long".repeat(16 << 20) }));
        let stop = CancellationToken::new();
        let tls = PortTls::Off(Refusals::default());
        let places = Places::new(limits.per_peer, Vec::new());
        let ended = tokio::spawn(accept(listener, router, tls, limits, places, stop.clone()));
        Fixture {
            address,
            stop,
            ended,
        }
    }

    impl Fixture {
        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }
    }

    async fn answer(peer: &mut TcpStream) -> String {
        let mut text = String::new();
        while !text.ends_with("here") {
            let mut bytes = [0; 1024];
            let read = timeout(PATIENCE, peer.read(&mut bytes))
                .await
                .unwrap()
                .unwrap();
            assert!(read > 0, "closed after {text:?}");
            text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        }
        text
    }

    /// Reads until the connection is closed.
    async fn rest(peer: &mut TcpStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A reset is an end as well.
        let _ = timeout(PATIENCE, peer.read_to_end(&mut bytes))
            .await
            .expect("it is closed");
        bytes
    }

    #[tokio::test]
    async fn a_connection_without_a_complete_request_is_closed_in_time() {
        let port = fixture(HttpLimits {
            header_time: SHORT,
            ..LENIENT
        })
        .await;
        let mut silent = port.connect().await;
        let mut slow = port.connect().await;
        slow.write_all(b"GET / HTTP/1.1\r\nx-slow: ").await.unwrap();
        rest(&mut silent).await;
        rest(&mut slow).await;
    }

    #[tokio::test]
    async fn a_connection_whose_peer_does_not_read_or_stays_idle_is_closed_in_time() {
        let port = fixture(HttpLimits {
            life: SHORT,
            closing_time: SHORT,
            ..LENIENT
        })
        .await;
        let mut unread = port.connect().await;
        unread
            .write_all(b"GET /long HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let mut idle = port.connect().await;
        rest(&mut idle).await;
        // A connection that is not read does not delay the stop.
        port.stop.cancel();
        timeout(PATIENCE, port.ended).await.unwrap().unwrap();
        assert!(rest(&mut unread).await.len() < 64 << 20);
    }

    #[tokio::test]
    async fn request_headers_above_the_limit_are_refused() {
        let port = fixture(LENIENT).await;
        let mut peer = port.connect().await;
        let head = format!(
            "GET / HTTP/1.1\r\nx-long: {}\r\n\r\n",
            "a".repeat(64 * 1024)
        );
        let _ = peer.write_all(head.as_bytes()).await;
        let said = String::from_utf8(rest(&mut peer).await).unwrap();
        assert!(
            said.is_empty() || said.starts_with("HTTP/1.1 431 "),
            "{said}"
        );
        assert!(!said.contains("aaa"));
    }

    #[tokio::test]
    async fn a_connection_beyond_the_limit_waits_until_another_is_closed() {
        let port = fixture(HttpLimits {
            connections: 1,
            ..LENIENT
        })
        .await;
        let mut first = port.connect().await;
        first.write_all(REQUEST).await.unwrap();
        answer(&mut first).await;
        let mut second = port.connect().await;
        second.write_all(REQUEST).await.unwrap();
        let mut byte = [0];
        assert!(timeout(SHORT, second.read(&mut byte)).await.is_err());
        drop(first);
        assert!(answer(&mut second).await.starts_with("HTTP/1.1 200 OK\r\n"));
    }

    #[tokio::test]
    async fn stopping_closes_idle_connections_and_the_port() {
        let port = fixture(LENIENT).await;
        let mut idle = port.connect().await;
        idle.write_all(REQUEST).await.unwrap();
        answer(&mut idle).await;
        let mut silent = port.connect().await;
        port.stop.cancel();
        rest(&mut idle).await;
        rest(&mut silent).await;
        timeout(PATIENCE, port.ended).await.unwrap().unwrap();
        assert!(TcpStream::connect(port.address).await.is_err());
    }
}

//! The port: who gets in, and how long anybody may take.
//!
//! It is open to strangers, so each connection is bounded in memory and in time. `axum::serve` has no
//! such bounds; hyper has.

use std::{io, net::SocketAddr, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Site, next_connection};

/// The bounds of a connection. A body is bounded by not being read: no route takes one, and hyper closes
/// the connection of who sends one that has not arrived with its head.
#[derive(Clone, Copy)]
struct Limits {
    /// Connections at once; others wait in the system's queue.
    connections: usize,
    /// How long the head of a request may take, waiting for it on an open connection included.
    head: Duration,
    /// Bytes of a head; the least that hyper allows is 8 KiB.
    head_bytes: usize,
    /// How long a connection is kept, however busy it is; this is also what ends one whose peer does not read.
    life: Duration,
    /// How long a request under way may take once the connection has to end.
    farewell: Duration,
}

const LIMITS: Limits = Limits {
    connections: 512,
    head: Duration::from_secs(10),
    head_bytes: 16 * 1024,
    life: Duration::from_secs(300),
    farewell: Duration::from_secs(2),
};

/// A port that is held, but not answered yet.
#[derive(Debug)]
pub struct HttpPort {
    listener: TcpListener,
    address: SocketAddr,
}

impl HttpPort {
    /// Takes the port.
    ///
    /// # Errors
    /// It is taken, or not to be had.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The address that was really bound.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until told to stop; then closes the port, lets requests under way end, for no longer than
    /// `drain`, and returns.
    pub async fn serve(self, site: Site, stop: CancellationToken, drain: Duration) {
        let limits = Limits {
            farewell: LIMITS.farewell.min(drain),
            ..LIMITS
        };
        accept(self.listener, site.into_router(), limits, stop).await;
    }
}

async fn accept(listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            stream = next_connection(&listener), if connections.len() < limits.connections => {
                connections.spawn(converse(stream, router.clone(), limits, stop.clone()));
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn converse(stream: TcpStream, router: Router, limits: Limits, stop: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(limits.head_bytes)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // A peer that breaks the protocol or goes away concerns nobody else.
        _ = connection.as_mut() => return,
        () = stop.cancelled() => {}
        () = sleep(limits.life) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(limits.farewell, connection).await;
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

    const PATIENT: Limits = Limits {
        connections: 8,
        head: LONG,
        head_bytes: 8 * 1024,
        life: LONG,
        farewell: LONG,
    };

    struct World {
        address: SocketAddr,
        stop: CancellationToken,
        ended: JoinHandle<()>,
    }

    /// A port whose page is far longer than what the system takes in for a peer that does not read.
    async fn world(limits: Limits) -> World {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/long", get(|| async { "long".repeat(16 << 20) }));
        let stop = CancellationToken::new();
        let ended = tokio::spawn(accept(listener, router, limits, stop.clone()));
        World {
            address,
            stop,
            ended,
        }
    }

    impl World {
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
    async fn who_never_finishes_a_request_is_cut_off() {
        let world = world(Limits {
            head: SHORT,
            ..PATIENT
        })
        .await;
        let mut silent = world.connect().await;
        let mut slow = world.connect().await;
        slow.write_all(b"GET / HTTP/1.1\r\nx-slow: ").await.unwrap();
        rest(&mut silent).await;
        rest(&mut slow).await;
    }

    #[tokio::test]
    async fn who_does_not_read_or_never_leaves_is_cut_off() {
        let world = world(Limits {
            life: SHORT,
            farewell: SHORT,
            ..PATIENT
        })
        .await;
        let mut deaf = world.connect().await;
        deaf.write_all(b"GET /long HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let mut idle = world.connect().await;
        rest(&mut idle).await;
        // The connection that is not read ends the server no later than the one that is.
        world.stop.cancel();
        timeout(PATIENCE, world.ended).await.unwrap().unwrap();
        assert!(rest(&mut deaf).await.len() < 64 << 20);
    }

    #[tokio::test]
    async fn a_head_that_is_too_long_is_refused() {
        let world = world(PATIENT).await;
        let mut peer = world.connect().await;
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
    async fn a_connection_too_many_waits_for_its_turn() {
        let world = world(Limits {
            connections: 1,
            ..PATIENT
        })
        .await;
        let mut first = world.connect().await;
        first.write_all(REQUEST).await.unwrap();
        answer(&mut first).await;
        let mut second = world.connect().await;
        second.write_all(REQUEST).await.unwrap();
        let mut byte = [0];
        assert!(timeout(SHORT, second.read(&mut byte)).await.is_err());
        drop(first);
        assert!(answer(&mut second).await.starts_with("HTTP/1.1 200 OK\r\n"));
    }

    #[tokio::test]
    async fn a_stop_closes_idle_connections_and_the_port() {
        let world = world(PATIENT).await;
        let mut idle = world.connect().await;
        idle.write_all(REQUEST).await.unwrap();
        answer(&mut idle).await;
        let mut silent = world.connect().await;
        world.stop.cancel();
        rest(&mut idle).await;
        rest(&mut silent).await;
        timeout(PATIENCE, world.ended).await.unwrap().unwrap();
        assert!(TcpStream::connect(world.address).await.is_err());
    }
}

//! One gRPC connection: how long it may take to open HTTP/2, how old it may become, and how it ends.

use std::{
    io::{self, Cursor},
    net::SocketAddr,
    pin::pin,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, ReadHalf, WriteHalf, join, split},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::{sleep, timeout},
};
use tokio_rustls::server::TlsStream;
use tokio_util::{either::Either, sync::CancellationToken};
use tonic::{body::Body, transport::server::TcpConnectInfo};
use tower::{Service, ServiceExt as _};

use crate::{
    clock::{Clock, monotonic_now},
    config::ServingSettings,
    grpc::{
        PeerMemory, RequestMemory, count_request,
        layers::{ConnectionCalls, ConnectionCertificate},
    },
    http::Place,
    tls::{Accepted, Refusals, TlsPort, TlsState},
};

/// How often a peer that sends nothing is asked whether it is still there (HTTP/2 PING).
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long it may take to answer. This also closes connections that stop in the middle of a frame, and those whose
/// peer does not read what is sent to it.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes that a peer may send ahead on one stream and on one connection. HTTP/2's own initial size for a stream
/// (RFC 9113 section 6.9.2); a connection may have four such streams in flight.
const STREAM_WINDOW: u32 = 65_535;
const CONNECTION_WINDOW: u32 = 4 * STREAM_WINDOW;
/// Response bytes that wait for a stream's peer to read, before the service is asked for more.
const MAX_SEND_BUFFER: usize = 64 * 1024;

/// hyper's limit on headers is this many times the configured one: what is between the two gets an answer of our own
/// that is counted and logged, and what is above it is refused by hyper unseen.
const HEADER_MARGIN: u32 = 4;

/// How often in the idle time-out a connection is looked at.
const IDLE_ROUNDS: u32 = 4;

/// The client connection preface (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The header of a frame. That of SETTINGS must follow the preface.
const FRAME_HEADER: usize = 9;

/// How long after GOAWAY a connection without calls is kept, so that calls that are on their way to us still arrive.
const GOAWAY_DELAY: Duration = Duration::from_secs(1);

/// The two halves of a connection, without and with TLS.
type Reader = Either<OwnedReadHalf, ReadHalf<TlsStream<TcpStream>>>;
type Writer = Either<OwnedWriteHalf, WriteHalf<TlsStream<TcpStream>>>;

/// What serves connections.
#[derive(Clone, Debug)]
pub(super) struct ConnectionServer<S> {
    http2: http2::Builder<TokioExecutor>,
    settings: ServingSettings,
    tls: Option<TlsState>,
    /// Clients that use TLS on a port without TLS.
    refusals: Refusals,
    memory: RequestMemory,
    service: S,
    draining: CancellationToken,
}

impl<S, B> ConnectionServer<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Serves `service`. Connections are closed gracefully once `draining` is cancelled.
    pub(super) fn new(
        settings: ServingSettings,
        tls: Option<TlsState>,
        refusals: Refusals,
        service: S,
        draining: CancellationToken,
    ) -> Self {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(MAX_SEND_BUFFER)
            .max_concurrent_streams(settings.max_concurrent_streams)
            .max_header_list_size(settings.max_header_size.saturating_mul(HEADER_MARGIN));
        Self {
            http2,
            memory: RequestMemory::new(settings.max_request_memory),
            settings,
            tls,
            refusals,
            service,
            draining,
        }
    }

    /// Serves one connection until it ends: because the peer closes it or breaks the protocol, because it has had no call
    /// for long or is too old, or because the server drains.
    pub(super) async fn serve(self, stream: TcpStream, place: Place) {
        // One limit for the TLS handshake and the opening of HTTP/2 together.
        let time = self.settings.handshake_timeout;
        let Some(tls) = &self.tls else {
            let (reader, writer) = stream.into_split();
            let halves = (Either::Left(reader), Either::Left(writer));
            let end = End::default();
            return self.open(halves, &place, None, end, time).await;
        };
        let began = monotonic_now();
        let accepted = tokio::select! {
            accepted = tls.accept(TlsPort::Grpc, stream, place.peer, time) => accepted,
            () = self.draining.cancelled() => return,
        };
        let Some(accepted) = accepted else { return };
        let end = End::of(&accepted);
        let certificate = accepted.peer.clone().map(ConnectionCertificate);
        let (reader, writer) = split(accepted.stream);
        let halves = (Either::Right(reader), Either::Right(writer));
        let left = time.saturating_sub(began.elapsed());
        self.open(halves, &place, certificate, end, left).await;
    }

    /// Serves HTTP/2, which the peer has to open within `time`.
    async fn open(
        self,
        (mut reader, writer): (Reader, Writer),
        place: &Place,
        certificate: Option<ConnectionCertificate>,
        end: End,
        time: Duration,
    ) {
        let opening = tokio::select! {
            opening = timeout(time, read_opening(&mut reader)) => opening,
            () = self.draining.cancelled() => return,
        };
        let Ok(Ok(opening)) = opening else {
            return;
        };
        if self.tls.is_none() {
            self.refusals.count_tls_client_hello(&opening, place.peer);
        }
        let stream = join(Cursor::new(opening).chain(reader), writer);
        // Dropped with the connection; ends its response streams.
        let calls = ConnectionCalls::new(&self.draining);
        let memory = self.memory.of_peer(place.request_bytes());
        let service = with_extensions(self.service, place.peer, certificate, calls.clone(), memory);
        let connection = self
            .http2
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let mut connection = pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => return,
            () = self.draining.cancelled() => {}
            () = sleep(varied(self.settings.max_connection_age).min(end.latest)) => {}
            () = end.authorities_replaced.cancelled() => {}
            () = idle(&calls, self.settings.connection_idle_timeout) => {}
        }
        connection.as_mut().graceful_shutdown();
        if !self.draining.is_cancelled() {
            tokio::select! {
                _ = connection.as_mut() => return,
                () = self.draining.cancelled() => {}
                () = sleep(self.settings.max_connection_age_grace) => {}
            }
        }
        // Response streams have no end of their own. They get a status that tells the caller to connect again.
        calls.end_streams();
        // A peer need not answer GOAWAY. When the grace has passed, all calls have had their time; when the server
        // drains, they have until the drain time-out, at which the whole connection is dropped.
        let aged = !self.draining.is_cancelled();
        while timeout(GOAWAY_DELAY, connection.as_mut()).await.is_err() {
            if aged || calls.under_way() == 0 {
                return;
            }
        }
    }
}

/// Waits until there has been no call for `timeout`, and returns at most a quarter of it later.
async fn idle(calls: &ConnectionCalls, timeout: Duration) {
    let mut begun = calls.begun();
    let mut rounds = 0;
    while rounds < IDLE_ROUNDS {
        sleep(timeout / IDLE_ROUNDS).await;
        let is_quiet = calls.open() == 0 && calls.begun() == begun;
        rounds = if is_quiet { rounds + 1 } else { 0 };
        begun = calls.begun();
    }
}

/// What ends a connection besides its age: the client's certificate is no longer good.
struct End {
    latest: Duration,
    authorities_replaced: CancellationToken,
}

impl Default for End {
    fn default() -> Self {
        Self {
            latest: Duration::MAX,
            authorities_replaced: CancellationToken::new(),
        }
    }
}

impl End {
    fn of(accepted: &Accepted) -> Self {
        match &accepted.peer {
            None => Self::default(),
            Some(certificate) => Self {
                latest: certificate.not_after.since(Clock::System.now()),
                authorities_replaced: accepted.authorities_replaced.clone(),
            },
        }
    }
}

/// Reads until the peer has opened HTTP/2, or has sent something else. hyper answers either; before that, the peer costs
/// nothing but its socket and gets no byte.
async fn read_opening(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<BytesMut> {
    let mut bytes = BytesMut::new();
    while bytes.len() < PREFACE.len() + FRAME_HEADER {
        let compared = bytes.len().min(PREFACE.len());
        if bytes[..compared] != PREFACE[..compared] || stream.read_buf(&mut bytes).await? == 0 {
            break;
        }
    }
    Ok(bytes)
}

/// The duration plus or minus up to 10 %, so that connections that were opened together do not end together.
fn varied(duration: Duration) -> Duration {
    let mut random = [0; 4];
    // Without randomness the age is the shortest allowed.
    let _ = aws_lc_rs::rand::fill(&mut random);
    duration.mul_f64(0.9 + 0.2 * f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX))
}

/// Tells the service about the connection by the extensions of each request.
fn with_extensions<S>(
    service: S,
    peer: SocketAddr,
    certificate: Option<ConnectionCertificate>,
    calls: ConnectionCalls,
    memory: PeerMemory,
) -> tower::util::MapRequest<S, impl FnMut(Request<Incoming>) -> Request<Body> + Clone>
where
    S: Service<Request<Body>>,
{
    let info = TcpConnectInfo {
        local_addr: None,
        remote_addr: Some(peer),
    };
    service.map_request(move |request: Request<Incoming>| {
        let mut request = count_request(request, &memory);
        request.extensions_mut().insert(info.clone());
        request.extensions_mut().insert(calls.clone());
        if let Some(certificate) = &certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        request
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_differ_by_at_most_a_tenth() {
        let age = Duration::from_secs(1_000);
        let ages: Vec<_> = (0..1_000).map(|_| varied(age).as_secs()).collect();
        assert!(ages.iter().all(|age| (900..=1_100).contains(age)));
        assert!(ages.iter().any(|age| *age < 950) && ages.iter().any(|age| *age > 1_050));
    }
}

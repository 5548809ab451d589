//! What one peer can use up: connections, streams, memory, and the time for which it holds them.

use std::{fs, net::SocketAddr, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::Request;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};
use tonic::{Code, Status, Streaming};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt as _;

use crate::support::{
    PATIENCE, TestDatabase, TestServer, eventually, failure, on_both_databases,
    process::TestProcess,
    raw::{Call, frame, whole},
    server::connect,
    web::get,
};

const LOGIN: &str = "/countersign.auth.v1.AuthService/Login";

/// The client connection preface (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame, which must follow it.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

const SHORT: Duration = Duration::from_millis(200);

pub async fn peer(address: SocketAddr, sends: &[u8]) -> TcpStream {
    let mut peer = TcpStream::connect(address).await.unwrap();
    // A peer that is refused may be gone before it has sent anything.
    let _ = peer.write_all(sends).await;
    peer
}

/// Reads until the server closes the connection.
pub async fn closed(mut peer: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = timeout(PATIENCE, peer.read_to_end(&mut bytes)).await;
    // A reset closes it as well.
    let _ = read.expect("the server closes the connection");
    bytes
}

/// A call whose message of `announced` bytes is sent up to `sent` bytes only.
async fn half_sent_call(
    sender: &h2::client::SendRequest<Bytes>,
    announced: u32,
    sent: usize,
) -> impl Sized + use<> {
    let request = Request::post("http://server/countersign.auth.v1.AuthService/Login")
        .header("te", "trailers")
        .header("content-type", "application/grpc");
    let mut ready = sender.clone().ready().await.unwrap();
    let (response, mut body) = ready
        .send_request(request.body(()).unwrap(), false)
        .unwrap();
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32(announced);
    message.put_bytes(b'x', sent);
    // A stream that the server has refused already takes no more.
    let _ = body.send_data(message.freeze(), false);
    (response, body)
}

/// The memory that the process has allocated. The pages of the program itself do not count: a debug build has many.
pub fn resident_megabytes(process: &TestProcess) -> u64 {
    let status =
        fs::read_to_string(format!("/proc/{}/status", process.child.id().unwrap())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .unwrap();
    line.split_whitespace()
        .next()
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1024
}

/// Reads a stream to the status with which it fails.
pub async fn end_of<T>(stream: &mut Streaming<T>) -> Status {
    let read = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended without a failure"),
                Err(status) => return status,
            }
        }
    };
    timeout(PATIENCE, read).await.expect("the stream ends")
}

/// In the middle of a stream the request id has been sent already, with the headers.
pub fn assert_connection_closing(status: &Status) {
    let details = status.get_error_details();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(
        details.error_info().expect("a reason").reason,
        "CONNECTION_CLOSING"
    );
    assert!(details.retry_info().is_some() && details.request_info().is_some());
}

on_both_databases! {
    async fn connections_that_do_not_open_http_2_are_closed_after_the_handshake_time_out(database: TestDatabase) {
        let settings = [("COUNTERSIGN_HANDSHAKE_TIMEOUT", "200ms")];
        let server = TestServer::start_with(&database, &settings).await;
        for sends in [b"".as_slice(), &PREFACE[..3], &PREFACE[..23], PREFACE] {
            closed(peer(server.address, sends).await).await;
        }
        for sends in [b"".as_slice(), b"GET /metrics HTTP/1.1\r\nx-slow: "] {
            closed(peer(server.http(), sends).await).await;
        }
        // A connection that is open, but has no calls, is left alone.
        let mut open = peer(server.address, &[PREFACE, SETTINGS].concat()).await;
        sleep(2 * SHORT).await;
        let mut bytes = [0; 1024];
        while let Ok(read) = timeout(SHORT, open.read(&mut bytes)).await {
            assert!(read.unwrap() > 0, "an open connection was closed");
        }
        server.signed_in("ada@example.org").await;
    }

    async fn connections_beyond_the_limit_are_closed_at_once_and_earlier_ones_continue(database: TestDatabase) {
        let settings = [("COUNTERSIGN_MAX_CONNECTIONS", "3")];
        // It has one connection of its own.
        let server = TestServer::start_with(&database, &settings).await;
        let second = connect(server.address).await;
        let _third = connect(server.address).await;
        closed(peer(server.address, PREFACE).await).await;
        server.signed_in("ada@example.org").await;
        assert_eq!(get(server.http(), "/healthz").await.status, 200, "the HTTP port has a limit of its own");
        drop(second);
        eventually("a closed connection makes room for another", async || {
            let channel = tonic::transport::Channel::from_shared(format!("http://{}", server.address)).unwrap();
            match channel.connect().await {
                Ok(channel) => HealthClient::new(channel).check(HealthCheckRequest::default()).await.is_ok(),
                Err(_) => false,
            }
        }).await;
    }

    async fn the_limit_on_streams_is_announced_to_each_connection(database: TestDatabase) {
        const DEFAULT: &[(&str, &str)] = &[];
        const FOUR: &[(&str, &str)] = &[("COUNTERSIGN_MAX_CONCURRENT_STREAMS", "4")];
        for (settings, limit) in [(DEFAULT, 256_usize), (FOUR, 4)] {
            let server = TestServer::start_with(&database, settings).await;
            let stream = TcpStream::connect(server.address).await.unwrap();
            let (sender, connection) = h2::client::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            eventually("the server has announced its limit", async || sender.current_max_send_streams() == limit).await;
        }
    }

    async fn half_sent_messages_of_one_connection_take_no_more_than_64_megabytes(database: TestDatabase) {
        let process = TestProcess::start(&database).await;
        for (announced, sent) in [(4 << 20, 4 << 20), (64 << 10, 60 << 10)] {
            let stream = TcpStream::connect(process.address).await.unwrap();
            let (sender, connection) = h2::client::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            let mut calls = Vec::new();
            for _ in 0..200 {
                calls.push(half_sent_call(&sender, announced, sent - 1).await);
            }
            sleep(Duration::from_secs(1)).await;
            let megabytes = resident_megabytes(&process);
            assert!(megabytes <= 64, "{megabytes} MB with {announced} bytes announced");
        }
        process.signed_in("ada@example.org").await;
    }

    async fn large_requests_over_the_memory_limit_are_refused_and_ordinary_ones_are_not(database: TestDatabase) {
        // Large requests get three quarters of the memory; an address has a quarter of that, a trusted proxy all of it.
        for (trusted, fitting) in [("none", 2), ("127.0.0.1/32", 11)] {
            let settings = [("COUNTERSIGN_MAX_REQUEST_MEMORY", "1048576"), ("COUNTERSIGN_TRUSTED_PROXIES", trusted)];
            let server = TestServer::start_with(&database, &settings).await;
            let large = [whole(&vec![b'x'; 60_000])];
            let refusal = async || failure(&Call::new(LOGIN, large.clone()).send(server.address).await.unwrap().status());
            assert_eq!(refusal().await.code, Code::InvalidArgument);
            let mut arriving = Vec::new();
            eventually("a large request is refused", async || {
                let half = Call::new(LOGIN, [frame(0, 60_001, &vec![b'x'; 59_995])]);
                arriving.push(half.begin(server.address).await);
                refusal().await.reason == "OVERLOADED"
            }).await;
            assert!(arriving.len() >= fitting, "{}", arriving.len());
            server.signed_in(&format!("ada{fitting}@example.org")).await;
            drop(arriving);
            eventually("a large request is read again", async || refusal().await.code == Code::InvalidArgument).await;
            server.stop().await;
        }
    }

    async fn streams_of_an_old_connection_end_with_a_retriable_status(database: TestDatabase) {
        let settings = [
            ("COUNTERSIGN_MAX_CONNECTION_AGE", "1s"),
            ("COUNTERSIGN_MAX_CONNECTION_AGE_GRACE", "300ms"),
        ];
        let server = TestServer::start_with(&database, &settings).await;
        let mut health = HealthClient::new(connect(server.address).await);
        let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        assert_connection_closing(&end_of(&mut watch).await);
        // The client opens another connection by itself, and can watch again.
        eventually("the client is connected again", async || {
            health.watch(HealthCheckRequest::default()).await.is_ok()
        }).await;
    }

    async fn an_old_connection_is_closed_although_its_peer_does_not_answer(database: TestDatabase) {
        let settings = [
            ("COUNTERSIGN_MAX_CONNECTION_AGE", "1s"),
            ("COUNTERSIGN_MAX_CONNECTION_AGE_GRACE", "100ms"),
        ];
        let server = TestServer::start_with(&database, &settings).await;
        let said = closed(peer(server.address, &[PREFACE, SETTINGS].concat()).await).await;
        // A frame's type is its fourth byte; 7 is GOAWAY.
        assert!(said.windows(4).any(|bytes| bytes[..2] == [0, 0] && bytes[3] == 7), "no GOAWAY in {said:?}");
    }
}

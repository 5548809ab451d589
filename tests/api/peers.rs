//! What one peer address can take of what all share: connections, and memory of requests that are arriving.

use std::{net::SocketAddr, time::Duration};

use tokio::{io::AsyncReadExt as _, time::timeout};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    connections::{closed, peer, resident_megabytes},
    support::{
        PATIENCE, TestDatabase, TestServer, eventually, failure, on_both_databases,
        process::TestProcess,
        raw::{Call, Connection, frame, stream_as, whole},
        server::connect,
        web::get,
    },
};

const LOGIN: &str = "/countersign.auth.v1.AuthService/Login";
const VALIDATE: &str = "/countersign.auth.v1.AuthService/ValidateToken";
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// The client connection preface and an empty SETTINGS frame (RFC 9113 section 3.4).
const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The head of a call with headers of 15 KB.
fn large_headers(path: &str) -> Call {
    Call::new(path, []).header("x-large", &"x".repeat(15_000))
}

/// A call with the first 15 KB of its message.
fn half_message(path: &str) -> Call {
    Call::new(path, [frame(0, 60_000, &[b'x'; 15_000])])
}

/// Whether the server still answers on this connection. It reads frames in order, so all that was sent before has arrived.
async fn has_read_all(connection: &Connection) -> bool {
    connection
        .send(Call::new(HEALTH, [whole(&[])]))
        .await
        .is_some()
}

/// Whether a connection from `127.0.0.LAST` is taken: the server sends its SETTINGS.
async fn is_taken(last: u8, address: SocketAddr) -> Option<tokio::net::TcpStream> {
    let mut stream = stream_as(last, address).await.ok()?;
    tokio::io::AsyncWriteExt::write_all(&mut stream, OPENING)
        .await
        .ok()?;
    let read = timeout(PATIENCE, stream.read(&mut [0; 64]))
        .await
        .expect("an answer or an end");
    read.is_ok_and(|bytes| bytes > 0).then_some(stream)
}

on_both_databases! {
    async fn unfinished_requests_of_many_connections_take_no_more_than_the_request_memory(database: TestDatabase) {
        let settings = [
            ("COUNTERSIGN_MAX_REQUEST_MEMORY", "4194304"),
            ("COUNTERSIGN_REQUEST_TIMEOUT", "10m"),
        ];
        for unfinished in [large_headers(LOGIN), half_message(VALIDATE)] {
            let mut process = TestProcess::start_with(&database, &settings).await;
            let before = resident_megabytes(&process);
            let (mut held, mut connections) = (Vec::new(), Vec::new());
            // 48 connections of 6 addresses, with 46 MB of what is not finished.
            for number in 0..48 {
                let connection = Connection::open_as(2 + number % 6, process.address).await;
                for _ in 0..64 {
                    held.push(connection.begin(unfinished.clone()).await);
                }
                assert!(has_read_all(&connection).await);
                connections.push(connection);
            }
            let grown = resident_megabytes(&process) - before;
            assert!(grown <= 32, "{grown} MB for {} with {} frames", unfinished.path, unfinished.frames.len());
            // The next one may only have the SQLite file once this one has ended.
            process.child.kill().await.unwrap();
        }
    }

    async fn unfinished_requests_of_one_address_do_not_refuse_those_of_others(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[("COUNTERSIGN_MAX_REQUEST_MEMORY", "1048576")]).await;
        let mut held = Vec::new();
        let connection = Connection::open_as(2, server.address).await;
        eventually("the address has used up its share", async || {
            held.push(connection.begin(half_message(LOGIN)).await);
            let answer = connection.send(Call::new(LOGIN, [whole(&[0; 15_000])])).await.unwrap();
            failure(&answer.status()).reason == "OVERLOADED"
        }).await;
        server.signed_in("ada@example.org").await;
        drop(held);
        eventually("its requests are read again", async || {
            let answer = connection.send(Call::new(LOGIN, [whole(&[0; 15_000])])).await.unwrap();
            failure(&answer.status()).reason == "INVALID_FIELD"
        }).await;
    }

    async fn connections_of_one_address_do_not_take_the_places_of_others(database: TestDatabase) {
        let settings = [
            ("COUNTERSIGN_MAX_CONNECTIONS_PER_PEER", "3"),
            ("COUNTERSIGN_TRUSTED_PROXIES", "127.0.0.9/32"),
        ];
        let server = TestServer::start_with(&database, &settings).await;
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(is_taken(2, server.address).await.expect("a place of the share"));
        }
        assert!(is_taken(2, server.address).await.is_none());
        server.signed_in("ada@example.org").await;
        let mut of_proxy = Vec::new();
        for _ in 0..5 {
            of_proxy.push(is_taken(9, server.address).await.expect("a trusted proxy has no share"));
        }
        held.pop();
        eventually("a closed connection gives its place back", async || is_taken(2, server.address).await.is_some()).await;
    }

    async fn one_address_may_hold_everything_where_its_share_is_not_below_the_limit(database: TestDatabase) {
        let settings = [
            ("COUNTERSIGN_MAX_CONNECTIONS", "40"),
            ("COUNTERSIGN_MAX_CONNECTIONS_PER_PEER", "40"),
            ("COUNTERSIGN_MAX_REQUEST_MEMORY", "1048576"),
            ("COUNTERSIGN_HANDSHAKE_TIMEOUT", "1m"),
        ];
        let server = TestServer::start_with(&database, &settings).await;
        let mut held = Vec::new();
        // A quarter of the memory is 17 of them.
        let connection = Connection::open_as(6, server.address).await;
        for _ in 0..30 {
            held.push(connection.begin(half_message(LOGIN)).await);
        }
        assert!(has_read_all(&connection).await);
        let answer = connection.send(Call::new(LOGIN, [whole(&[0; 15_000])])).await.unwrap();
        assert_eq!(failure(&answer.status()).reason, "INVALID_FIELD");
        let (mut grpc, mut http) = (Vec::new(), Vec::new());
        // A quarter of the connections is 16 and 128.
        for _ in 0..30 {
            grpc.push(is_taken(6, server.address).await.expect("a place"));
        }
        for _ in 0..140 {
            http.push(stream_as(6, server.http()).await.unwrap());
        }
        for mut stream in http {
            tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            assert!(stream.read(&mut [0; 64]).await.unwrap() > 0, "the connection is closed");
        }
    }

    async fn one_address_does_not_take_all_connections_of_the_http_port(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[("COUNTERSIGN_HANDSHAKE_TIMEOUT", "1m")]).await;
        let mut held = Vec::new();
        // A quarter of 512.
        for _ in 0..128 {
            held.push(stream_as(2, server.http()).await.unwrap());
        }
        // It was accepted after the others.
        let refused = stream_as(2, server.http()).await.unwrap();
        closed(refused).await;
        assert_eq!(get(server.http(), "/healthz").await.status, 200);
    }

    async fn a_connection_without_calls_is_closed_and_one_with_a_stream_is_not(database: TestDatabase) {
        let settings = [("COUNTERSIGN_CONNECTION_IDLE_TIMEOUT", "1s"), ("COUNTERSIGN_MAX_CONNECTION_AGE_GRACE", "1s")];
        let server = TestServer::start_with(&database, &settings).await;
        let mut health = HealthClient::new(connect(server.address).await);
        let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        assert!(watch.message().await.unwrap().is_some());
        // One after the other, so that the stream lives for several time-outs.
        for _ in 0..3 {
            let said = closed(peer(server.address, OPENING).await).await;
            // A frame's type is its fourth byte; 7 is GOAWAY.
            assert!(said.windows(4).any(|bytes| bytes[..2] == [0, 0] && bytes[3] == 7), "no GOAWAY in {said:?}");
        }
        let next = timeout(Duration::from_millis(100), watch.message()).await;
        assert!(next.is_err(), "the stream has ended: {next:?}");
        // A call on a connection that was closed opens another one.
        server.signed_in("ada@example.org").await;
    }
}

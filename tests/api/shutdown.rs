//! SIGTERM and SIGINT: what callers see, and how the process ends.

use std::time::Duration;

use countersign::grpc::pb::RegisterRequest;
use rustix::process::Signal;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{Instant, timeout},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::connections::{assert_connection_closing, end_of};
use crate::support::{
    PASSWORD, PATIENCE, TestDatabase, TestServer, eventually, on_both_databases, operator::bearing,
    process::TestProcess, server::connect, web::get,
};

/// Hashes that take a second or more.
const SLOW_HASHES: [(&str, &str); 2] = [
    ("COUNTERSIGN_ARGON2_MEMORY_KIB", "65536"),
    ("COUNTERSIGN_ARGON2_ITERATIONS", "6"),
];

fn registration() -> RegisterRequest {
    RegisterRequest {
        email: "ada@example.org".to_owned(),
        password: PASSWORD.to_owned(),
        display_name: String::new(),
    }
}

async fn overall_health(channel: tonic::transport::Channel) -> ServingStatus {
    let answer = HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await;
    answer.unwrap().into_inner().status()
}

on_both_databases! {
    async fn sigterm_and_sigint_end_the_server_with_exit_code_0(database: TestDatabase) {
        for signal in [Signal::TERM, Signal::INT] {
            let server = TestProcess::start(&database).await;
            assert_eq!(server.end(signal).await, Some(0), "{signal:?}");
        }
    }

    async fn a_running_call_is_finished_before_the_server_ends(database: TestDatabase) {
        let server = TestProcess::start_with(&database, &SLOW_HASHES).await;
        let mut client = server.auth();
        let channel = server.channel.clone();
        let call = client.register(registration());
        let end = async {
            // Frames of one connection are read in order: once this is answered, the server has the call.
            overall_health(channel).await;
            server.end(Signal::TERM).await
        };
        let (answer, code) = tokio::join!(call, end);
        assert_eq!(code, Some(0));
        answer.unwrap();
    }

    async fn a_second_signal_ends_the_server_at_once(database: TestDatabase) {
        let settings = [("COUNTERSIGN_SHUTDOWN_DELAY", "10m")];
        let server = TestProcess::start_with(&database, &settings).await;
        server.signal(Signal::TERM);
        eventually("the shutdown has begun", async || {
            overall_health(server.channel.clone()).await == ServingStatus::NotServing
        }).await;
        assert_eq!(server.end(Signal::INT).await, Some(1));
    }

    async fn during_the_shutdown_delay_new_connections_are_served_and_health_is_not_serving(database: TestDatabase) {
        let settings = [("COUNTERSIGN_SHUTDOWN_DELAY", "2s")];
        let mut server = TestServer::start_with(&database, &settings).await;
        let tokens = server.signed_in("ada@example.org").await;
        for path in ["/healthz", "/readyz"] {
            assert_eq!(get(server.http(), path).await.status, 200);
        }
        let begun = Instant::now();
        server.begin_stop();
        eventually("health says NOT_SERVING", async || {
            overall_health(server.channel.clone()).await == ServingStatus::NotServing
        }).await;
        assert_eq!(overall_health(connect(server.address).await).await, ServingStatus::NotServing);
        for path in ["/healthz", "/readyz"] {
            assert_eq!(get(server.http(), path).await.status, 503);
        }
        server.validate(&tokens.access_token).await.unwrap();
        server.refresh(&tokens.refresh_token).await.unwrap();
        let (grpc, http) = (server.address, server.http());
        timeout(PATIENCE, server.stop()).await.expect("the server ends");
        assert!(begun.elapsed() >= Duration::from_secs(2));
        for address in [grpc, http] {
            assert!(TcpStream::connect(address).await.is_err());
        }
    }

    async fn streams_end_with_a_retriable_status_when_the_server_drains(database: TestDatabase) {
        let mut server = TestServer::start(&database).await;
        let admin = server.signed_in_as("root@example.org", "admin").await;
        let mut health = HealthClient::new(server.channel.clone())
            .watch(HealthCheckRequest::default())
            .await
            .unwrap()
            .into_inner();
        let request = countersign::grpc::pb::WatchRevocationsRequest::default();
        let mut revocations = countersign::grpc::pb::verifier_service_client::VerifierServiceClient::new(server.channel.clone())
            .watch_revocations(bearing(&admin.access_token, request))
            .await
            .unwrap()
            .into_inner();
        revocations.message().await.unwrap().expect("the snapshot");
        server.begin_stop();
        assert_connection_closing(&end_of(&mut health).await);
        assert_connection_closing(&end_of(&mut revocations).await);
        server.stop().await;
    }

    async fn connections_without_calls_do_not_delay_the_end(database: TestDatabase) {
        // Longer than a test waits: nothing here may use it up.
        let settings = [("COUNTERSIGN_DRAIN_TIMEOUT", "10m"), ("COUNTERSIGN_HANDSHAKE_TIMEOUT", "1m")];
        let server = TestServer::start_with(&database, &settings).await;
        let mut peers = Vec::new();
        for sends in [
            b"".as_slice(),
            b"PRI * HT",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        ] {
            let mut peer = TcpStream::connect(server.address).await.unwrap();
            peer.write_all(sends).await.unwrap();
            peers.push(peer);
        }
        // Connections are accepted in order.
        overall_health(connect(server.address).await).await;
        timeout(PATIENCE, server.stop()).await.expect("the server ends");
    }
}

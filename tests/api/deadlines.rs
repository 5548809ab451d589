//! Deadlines of callers and of the server, and calls that are cancelled: none costs a hash.

use std::time::{Duration, Instant};

use countersign::grpc::pb::LoginRequest;
use futures_util::future::join_all;
use tonic::{Code, Request};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::support::{
    PASSWORD, TestDatabase, TestServer, failure, on_both_databases,
    raw::{Call, Connection, End, frame},
};

/// One worker, and hashes that take long enough to fill the queue.
const SLOW: [(&str, &str); 5] = [
    ("COUNTERSIGN_HASHING_WORKERS", "1"),
    ("COUNTERSIGN_HASHING_QUEUE", "2"),
    ("COUNTERSIGN_ARGON2_MEMORY_KIB", "19456"),
    ("COUNTERSIGN_ARGON2_ITERATIONS", "8"),
    ("COUNTERSIGN_CREDENTIAL_RATE_PER_SECOND", "0"),
];

fn login() -> LoginRequest {
    LoginRequest {
        email: "ada@example.org".to_owned(),
        password: PASSWORD.to_owned(),
        device_label: String::new(),
        ..LoginRequest::default()
    }
}

on_both_databases! {
    async fn a_unary_call_ends_at_the_servers_own_deadline(database: TestDatabase) {
        let limit = Duration::from_millis(200);
        let server = TestServer::start_with(&database, &[("COUNTERSIGN_REQUEST_TIMEOUT", "200ms")]).await;
        let mut health = HealthClient::new(server.channel.clone());
        let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        watch.message().await.unwrap();
        let connection = Connection::open(server.address).await;
        for path in ["Login", "ValidateToken", "Refresh"] {
            // Half of a message, and nothing after it.
            for timeout in ["", "1H", "nonsense"] {
                let path = format!("/countersign.auth.v1.AuthService/{path}");
                let half = Call::new(&path, [frame(0, 100, b"\x0a\x20")]).end(End::Never);
                let start = Instant::now();
                let answer = connection.send(half.header("grpc-timeout", timeout)).await.expect("an answer");
                assert_eq!(answer.status().code(), Code::DeadlineExceeded, "{path} {timeout}");
                assert!(answer.headers.contains_key("x-request-id"));
                assert!(start.elapsed() >= limit);
            }
        }
        // Streams have no such deadline: this one has been open all the time.
        let next = tokio::time::timeout(limit, watch.message());
        assert!(next.await.is_err(), "the stream is still open");
    }

    async fn logins_over_the_queue_length_are_refused_with_a_retry_delay(database: TestDatabase) {
        let server = TestServer::start_with(&database, &SLOW).await;
        server.register("ada@example.org").await.unwrap();
        let outcomes = join_all((0..20).map(|_| server.login("ada@example.org"))).await;
        let (served, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
        assert!(!served.is_empty() && !refused.is_empty());
        for outcome in refused {
            let failure = failure(&outcome.unwrap_err());
            assert_eq!((failure.code, failure.reason.as_str()), (Code::Unavailable, "OVERLOADED"));
            let delay = failure.details.retry_info().unwrap().retry_delay.unwrap();
            assert!(delay > Duration::ZERO);
        }
        server.login("ada@example.org").await.unwrap();
    }

    async fn a_login_that_would_miss_its_deadline_is_refused(database: TestDatabase) {
        let server = TestServer::start_with(&database, &SLOW).await;
        server.register("ada@example.org").await.unwrap();
        // A millisecond is less than any of these hashes takes.
        let mut request = Request::new(login());
        request.set_timeout(Duration::from_millis(1));
        let status = server.auth().login(request).await.unwrap_err();
        let expected = [Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled];
        assert!(expected.contains(&status.code()), "{status:?}");
        server.login("ada@example.org").await.unwrap();
    }

    async fn cancelled_logins_leave_the_queue(database: TestDatabase) {
        let deep = [SLOW.as_slice(), &[("COUNTERSIGN_HASHING_QUEUE", "40")]].concat();
        let server = TestServer::start_with(&database, &deep).await;
        server.register("ada@example.org").await.unwrap();
        let start = Instant::now();
        server.login("ada@example.org").await.unwrap();
        let alone = start.elapsed();

        // More calls than the queue holds: once one is refused, it is full.
        let (refused, mut first_refusal) = tokio::sync::mpsc::unbounded_channel();
        let abandoned: Vec<_> = (0..60)
            .map(|i| {
                let (mut client, refused) = (server.auth(), refused.clone());
                // Each for an account of its own: those of one account would not fill the queue.
                let request = LoginRequest { email: format!("nobody{i}@example.org"), ..login() };
                tokio::spawn(async move {
                    let Err(status) = client.login(request).await else { return };
                    if failure(&status).reason == "OVERLOADED" {
                        let _ = refused.send(());
                    }
                })
            })
            .collect();
        first_refusal.recv().await.unwrap();
        for call in &abandoned {
            call.abort();
        }
        // The next login waits for the running hash, and not for the forty that were cancelled.
        let start = Instant::now();
        while let Err(status) = server.login("ada@example.org").await {
            // The server has not read all cancellations yet.
            assert_eq!(failure(&status).reason, "OVERLOADED");
        }
        let waited = start.elapsed();
        assert!(waited < alone * 20, "{waited:?}, and {alone:?} alone");
    }
}

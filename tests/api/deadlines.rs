//! Deadlines and callers that go away: neither costs a hash.

use std::time::{Duration, Instant};

use countersign::grpc::pb::LoginRequest;
use futures_util::future::join_all;
use tonic::{Code, Request};

use crate::support::{PASSWORD, TestDatabase, TestServer, failure, on_both_databases};

/// One worker and hashes that take long enough to queue up.
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
    async fn what_does_not_fit_the_queue_is_refused_with_a_time_to_retry(database: TestDatabase) {
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

    async fn a_deadline_that_cannot_be_met_is_refused_at_once(database: TestDatabase) {
        let server = TestServer::start_with(&database, &SLOW).await;
        server.register("ada@example.org").await.unwrap();
        // A millisecond is less than any of these hashes takes.
        let mut request = Request::new(login());
        request.set_timeout(Duration::from_millis(1));
        let status = server.auth().login(request).await.unwrap_err();
        let honest = [Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled];
        assert!(honest.contains(&status.code()), "{status:?}");
        server.login("ada@example.org").await.unwrap();
    }

    async fn callers_that_go_away_free_their_places(database: TestDatabase) {
        let deep = [SLOW.as_slice(), &[("COUNTERSIGN_HASHING_QUEUE", "40")]].concat();
        let server = TestServer::start_with(&database, &deep).await;
        server.register("ada@example.org").await.unwrap();
        let start = Instant::now();
        server.login("ada@example.org").await.unwrap();
        let alone = start.elapsed();

        // More than there are places. Once one is refused, all places are taken.
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
        // Whoever comes next waits for the hash that runs, and not for forty that nobody awaits.
        let start = Instant::now();
        while let Err(status) = server.login("ada@example.org").await {
            // The server has not read yet that they are gone.
            assert_eq!(failure(&status).reason, "OVERLOADED");
        }
        let waited = start.elapsed();
        assert!(waited < alone * 20, "{waited:?}, and {alone:?} alone");
    }
}

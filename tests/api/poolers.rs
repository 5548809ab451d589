//! A pooler between the server and its database: what it refuses is waited for, or named with what mends it.

use futures_util::future::join_all;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::support::{Kind, TestDatabase, TestServer, pooler::Pooler, process::run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_takes_no_more_clients_makes_callers_wait() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let pooler = Pooler::before(&database.url).await;
    let settings = [
        ("COUNTERSIGN_DATABASE_URL", pooler.url.as_str()),
        ("COUNTERSIGN_HASHING_QUEUE", "300"),
    ];
    let server = TestServer::start_with(&database, &settings).await;
    let emails: Vec<_> = (0..30).map(|user| format!("u{user}@example.org")).collect();
    for email in &emails {
        server.register(email).await.unwrap();
    }
    let clients = pooler.take_no_more_clients();
    assert!(
        (1..16).contains(&clients),
        "{clients} connections are open: none of the pool of 16 is missing"
    );
    for login in join_all(emails.iter().map(|email| server.login(email))).await {
        login.unwrap();
    }
    let request = HealthCheckRequest {
        service: "countersign.auth.v1.AuthService".to_owned(),
    };
    let health = HealthClient::new(server.channel.clone())
        .check(request)
        .await;
    assert_eq!(
        health.unwrap().into_inner().status(),
        ServingStatus::Serving
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statement_pooling_is_refused_at_once_and_the_error_names_the_setting() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let pooler = Pooler::of_statements(&database.url).await;
    // Who waits for the database waits for longer than `run` does.
    let settings = [
        ("COUNTERSIGN_DATABASE_URL", pooler.url.as_str()),
        ("COUNTERSIGN_DATABASE_START_TIMEOUT", "5m"),
    ];
    for command in [[].as_slice(), &["migrate"], &["keys", "list"]] {
        let output = run(&database, &settings, command).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
        assert!(said.contains("pool_mode = session"), "{command:?}: {said}");
    }
}

//! Health: it says what is true, by name.

use std::time::Duration;

use countersign::grpc::health_pb;
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};

use crate::support::{TestDatabase, TestServer, failure, on_both_databases, reason, web::get};

const PATIENCE: Duration = Duration::from_secs(20);
const AUTH: &str = "countersign.auth.v1.AuthService";

fn named(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

async fn next(stream: &mut tonic::Streaming<HealthCheckResponse>) -> Option<ServingStatus> {
    let message = timeout(PATIENCE, stream.next())
        .await
        .expect("a status in time")?;
    Some(message.unwrap().status())
}

on_both_databases! {
    async fn every_known_name_is_serving_and_an_unknown_one_is_not_found(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let mut health = HealthClient::new(server.channel.clone());
        let others = ["AccountService", "AdminService", "ServiceAccountService", "TokenService", "VerifierService"];
        let others = others.map(|name| format!("countersign.auth.v1.{name}"));
        for name in ["", AUTH].into_iter().chain(others.iter().map(String::as_str)) {
            let status = health.check(named(name)).await.unwrap().into_inner().status();
            assert_eq!(status, ServingStatus::Serving, "{name}");
        }
        let unknown = health.check(named("nonsense")).await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound);
        let mut watch = health.watch(named("nonsense")).await.unwrap().into_inner();
        assert_eq!(next(&mut watch).await, Some(ServingStatus::ServiceUnknown));
        // The stream stays open: nothing more comes, and it has not ended.
        assert!(timeout(Duration::from_millis(50), watch.next()).await.is_err());
    }

    async fn list_has_the_status_of_every_name(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let mut health = health_pb::health_client::HealthClient::new(server.channel.clone());
        let list = health.list(health_pb::HealthListRequest {}).await.unwrap().into_inner();
        let names = ["", AUTH, "countersign.auth.v1.AccountService", "countersign.auth.v1.AdminService", "countersign.auth.v1.VerifierService", "countersign.auth.v1.ServiceAccountService", "countersign.auth.v1.TokenService"];
        assert_eq!(list.statuses.len(), names.len());
        for name in names {
            assert_eq!(list.statuses[name].status, i32::from(ServingStatus::Serving), "{name}");
        }
    }
}

/// A server whose database cannot be reached says so by name, goes on validating, and recovers by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_affects_only_calls_that_need_the_database() {
    let database = TestDatabase::create(crate::support::Kind::Postgres).await;
    let proxy = crate::support::proxy::Proxy::before(&database.url).await;
    let server =
        TestServer::start_with(&database, &[("COUNTERSIGN_DATABASE_URL", &proxy.url)]).await;
    let tokens = server.signed_in("ada@example.org").await;
    let mut health = HealthClient::new(server.channel.clone());
    let mut watch = health.watch(named(AUTH)).await.unwrap().into_inner();
    assert_eq!(next(&mut watch).await, Some(ServingStatus::Serving));

    proxy.cut();
    assert_eq!(next(&mut watch).await, Some(ServingStatus::NotServing));
    let overall = health.check(named("")).await.unwrap().into_inner().status();
    assert_eq!(
        overall,
        ServingStatus::Serving,
        "probes must not take validation out"
    );
    assert_eq!(get(server.http(), "/healthz").await.status, 200);
    assert_eq!(get(server.http(), "/readyz").await.status, 503);
    server.validate(&tokens.access_token).await.unwrap();
    assert_eq!(
        reason(server.login("ada@example.org").await),
        "DATABASE_UNAVAILABLE"
    );
    assert_eq!(
        reason(server.refresh(&tokens.refresh_token).await),
        "DATABASE_UNAVAILABLE"
    );
    assert_eq!(
        reason(server.logout(&tokens.refresh_token).await),
        "DATABASE_UNAVAILABLE"
    );

    proxy.mend();
    assert_eq!(next(&mut watch).await, Some(ServingStatus::Serving));
    server.login("ada@example.org").await.unwrap();
    server.refresh(&tokens.refresh_token).await.unwrap();
}

/// The same outage under the policy that refuses to judge by old knowledge.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_the_reject_policy_stale_revocations_are_reported_until_the_database_returns() {
    let database = TestDatabase::create(crate::support::Kind::Postgres).await;
    let proxy = crate::support::proxy::Proxy::before(&database.url).await;
    let settings = [
        ("COUNTERSIGN_DATABASE_URL", proxy.url.as_str()),
        ("COUNTERSIGN_STALE_POLICY", "reject"),
        ("COUNTERSIGN_REVOCATION_MAX_STALENESS", "60s"),
        ("COUNTERSIGN_REVOCATION_POLL_INTERVAL", "1s"),
    ];
    let server = TestServer::start_with(&database, &settings).await;
    let tokens = server.signed_in("ada@example.org").await;
    proxy.cut();
    server.validate(&tokens.access_token).await.unwrap();
    // A read that was under way when the connection was cut may still have been counted.
    let status = timeout(PATIENCE, async {
        loop {
            server.clock.advance(Duration::from_secs(61));
            if let Err(status) = server.validate(&tokens.access_token).await {
                return status;
            }
        }
    });
    let failure = failure(&status.await.expect("knowledge grows old"));
    assert_eq!(
        (failure.code, failure.reason.as_str()),
        (Code::Unavailable, "REVOCATION_STATE_STALE")
    );
    assert!(failure.details.retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
    // A bad token is bad, whatever is known of revocations.
    assert_eq!(reason(server.validate("garbage").await), "TOKEN_INVALID");

    proxy.mend();
    timeout(PATIENCE, async {
        while server.validate(&tokens.access_token).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("it heals by itself");
}

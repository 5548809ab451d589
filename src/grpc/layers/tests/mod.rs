//! Tests of the whole stack of layers over TCP, with tonic's server and client.

mod fixture;
mod tracing_context;

use std::time::Duration;

use fixture::{Fixture, Log};
use tokio_stream::StreamExt as _;
use tonic::{Code, Request, Status, metadata::MetadataMap};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::{ErrorDetail, StatusExt as _};

use super::Quota;
use crate::grpc::{DOMAIN, pb};

fn with<T>(message: T, name: &'static str, value: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(name, value.parse().unwrap());
    request
}

fn request_id(metadata: &MetadataMap) -> &str {
    let mut values = metadata.get_all("x-request-id").iter();
    let value = values.next().expect("every response has a request id");
    assert_eq!(values.next(), None);
    value.to_str().unwrap()
}

fn is_uuid_v7(text: &str) -> bool {
    uuid::Uuid::try_parse(text).is_ok_and(|uuid| uuid.get_version_num() == 7)
}

fn bad_token() -> pb::ValidateTokenRequest {
    pb::ValidateTokenRequest {
        access_token: "bad".to_owned(),
        ..pb::ValidateTokenRequest::default()
    }
}

fn stuck() -> pb::RegisterRequest {
    pb::RegisterRequest {
        email: "ada@example.org".to_owned(),
        password: "hunter2 hunter2".to_owned(),
        display_name: "stuck".to_owned(),
    }
}

#[tokio::test]
async fn the_callers_request_id_is_returned_on_success_and_on_error() {
    let fixture = Fixture::start().await;
    let mut auth = fixture.auth();
    let id = "my-own/id~1";

    let request = with(pb::LoginRequest::default(), "x-request-id", id);
    let response = auth.login(request).await.unwrap();
    assert_eq!(request_id(response.metadata()), id);

    let request = with(bad_token(), "x-request-id", id);
    let status = auth.validate_token(request).await.unwrap_err();
    assert_eq!(request_id(status.metadata()), id);
    let info = status.get_details_request_info().unwrap();
    assert_eq!(info.request_id, id);
}

#[tokio::test]
async fn a_missing_or_invalid_request_id_is_replaced() {
    let fixture = Fixture::start().await;
    let mut auth = fixture.auth();

    let response = auth.login(pb::LoginRequest::default()).await.unwrap();
    assert!(is_uuid_v7(request_id(response.metadata())));

    for invalid in ["two words", "", &"x".repeat(129)] {
        let request = with(pb::LoginRequest::default(), "x-request-id", invalid);
        let response = auth.login(request).await.unwrap();
        assert!(is_uuid_v7(request_id(response.metadata())), "{invalid:?}");
    }

    let status = auth.validate_token(bad_token()).await.unwrap_err();
    assert!(is_uuid_v7(request_id(status.metadata())));
}

#[tokio::test]
async fn an_unknown_method_has_a_request_id_and_an_access_line_without_its_path() {
    let log = Log::at("info");
    let fixture = Fixture::start().await;
    let mut grpc = tonic::client::Grpc::new(fixture.channel.clone());
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<pb::LoginRequest, pb::LoginResponse>::default();
    let path = http::uri::PathAndQuery::from_static("/who.is/ada@example.org");
    let status: Status = grpc
        .unary(Request::new(pb::LoginRequest::default()), path, codec)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(is_uuid_v7(request_id(status.metadata())));
    let lines = log.access(1).await;
    assert_eq!(lines[0]["fields"]["method"], "unknown");
    assert_eq!(lines[0]["fields"]["code"], "UNIMPLEMENTED");
    assert!(!log.text().contains("ada@example.org"));
}

#[tokio::test]
async fn a_rate_limited_call_gets_all_details_and_health_is_not_limited() {
    let log = Log::at("info");
    let quota = Quota {
        per_second: 1,
        burst: 2,
    };
    let fixture = Fixture::with(quota, &[]).await;
    let mut auth = fixture.auth();
    for _ in 0..2 {
        auth.login(pb::LoginRequest::default()).await.unwrap();
    }
    let request = with(pb::LoginRequest::default(), "x-request-id", "third");
    let status = auth.login(request).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(request_id(status.metadata()), "third");
    let mut kinds = Vec::new();
    for detail in status.check_error_details_vec().unwrap() {
        match detail {
            ErrorDetail::ErrorInfo(info) => {
                assert_eq!((&*info.reason, &*info.domain), ("RATE_LIMITED", DOMAIN));
                kinds.push("error");
            }
            ErrorDetail::RequestInfo(info) => {
                assert_eq!(info.request_id, "third");
                kinds.push("request");
            }
            ErrorDetail::RetryInfo(info) => {
                assert_eq!(info.retry_delay, Some(Duration::from_secs(1)));
                kinds.push("retry");
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    kinds.sort_unstable();
    assert_eq!(kinds, ["error", "request", "retry"]);

    let mut health = HealthClient::new(fixture.channel.clone());
    for _ in 0..10 {
        health.check(HealthCheckRequest::default()).await.unwrap();
        auth.refresh(pb::RefreshRequest::default()).await.unwrap();
        let token = pb::ValidateTokenRequest::default();
        auth.validate_token(token).await.unwrap();
    }
    let lines = log.access(13).await;
    assert_eq!(lines[2]["fields"]["reason"], "RATE_LIMITED");
    assert_eq!(lines[2]["fields"]["request_id"], "third");
}

#[tokio::test]
async fn x_forwarded_for_is_used_only_from_trusted_peers() {
    for (trusted, seen) in [(&[][..], "127.0.0.1"), (&["127.0.0.0/8"], "198.51.100.7")] {
        let fixture = Fixture::with(Quota::OFF, trusted).await;
        let header = "1.1.1.1, 198.51.100.7:4711";
        let request = with(pb::LoginRequest::default(), "x-forwarded-for", header);
        let response = fixture.auth().login(request).await.unwrap().into_inner();
        assert_eq!(response.user.unwrap().email, seen);
    }
}

#[tokio::test]
async fn a_watch_of_an_unknown_name_stays_open() {
    let fixture = Fixture::start().await;
    let mut health = HealthClient::new(fixture.channel.clone());
    let name = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    let status = health.check(name("nobody")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);

    let mut stream = health.watch(name("nobody")).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::ServiceUnknown);
    let next = tokio::time::timeout(Duration::from_millis(50), stream.next());
    assert!(
        next.await.is_err(),
        "the stream stays open without a message"
    );
}

#[tokio::test]
async fn a_call_writes_one_access_line_without_secrets() {
    let log = Log::at("info");
    let fixture = Fixture::start().await;
    let mut auth = fixture.auth();
    let request = pb::RegisterRequest {
        email: "ada@example.org".to_owned(),
        password: "hunter2 hunter2".to_owned(),
        ..pb::RegisterRequest::default()
    };
    let mut request = with(request, "x-request-id", "one");
    let bearer = "Bearer secret".parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    auth.register(request).await.unwrap();
    let lines = log.access(1).await;
    let line = &lines[0];
    assert_eq!(line["level"], "INFO");
    let fields = &line["fields"];
    assert_eq!(fields["request_id"], "one");
    assert_eq!(fields["method"], "countersign.auth.v1.AuthService/Register");
    assert_eq!(fields["code"], "OK");
    assert_eq!(fields["client"], "127.0.0.1");
    assert!(fields["duration_us"].is_u64());
    assert!(fields.get("reason").is_none());
    assert!(line.get("span").is_none());

    // Lines that the service writes have the request id, too.
    let inside = log.of("countersign::grpc::layers::tests::fixture");
    assert_eq!(inside[0]["span"]["request_id"], "one");
    for secret in ["ada", "hunter2", "secret"] {
        assert!(!log.text().contains(secret));
    }
}

#[tokio::test]
async fn hot_methods_are_logged_at_debug_unless_they_fail() {
    for (level, expected) in [("info", 1), ("debug", 4)] {
        let log = Log::at(&format!("countersign={level}"));
        let fixture = Fixture::start().await;
        let mut auth = fixture.auth();
        let mut health = HealthClient::new(fixture.channel.clone());
        auth.validate_token(pb::ValidateTokenRequest::default())
            .await
            .unwrap();
        health.check(HealthCheckRequest::default()).await.unwrap();
        let unknown = HealthCheckRequest {
            service: "nobody".to_owned(),
        };
        health.check(unknown).await.unwrap_err();
        auth.validate_token(bad_token()).await.unwrap_err();
        let lines = log.access(expected).await;
        let last = &lines[expected - 1];
        assert_eq!(last["level"], "INFO");
        assert_eq!(last["fields"]["code"], "UNAUTHENTICATED");
        assert_eq!(last["fields"]["reason"], "TOKEN_INVALID");
        assert!(
            lines[..expected - 1]
                .iter()
                .all(|line| line["level"] == "DEBUG")
        );
    }
}

#[tokio::test]
async fn a_cancelled_call_writes_an_access_line() {
    let log = Log::at("info,countersign=debug");
    let fixture = Fixture::start().await;
    let call = tokio::spawn({
        let mut auth = fixture.auth();
        async move { auth.register(stuck()).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    call.abort();
    let lines = log.access(1).await;
    assert_eq!(lines[0]["fields"]["code"], "CANCELLED");
    assert!(lines[0]["fields"]["duration_us"].as_u64().unwrap() >= 10_000);

    // The same in the middle of a stream, after its head was sent.
    let mut health = HealthClient::new(fixture.channel.clone());
    let stream = health.watch(HealthCheckRequest::default()).await.unwrap();
    drop(stream);
    let lines = log.access(2).await;
    assert_eq!(lines[1]["fields"]["method"], "grpc.health.v1.Health/Watch");
    assert_eq!(lines[1]["fields"]["code"], "CANCELLED");
}

/// tonic's client ends a call at its deadline by itself, so this test sends HTTP/2 by hand.
#[tokio::test]
async fn a_call_that_exceeds_its_deadline_is_answered_with_its_request_id() {
    use prost::Message as _;

    let log = Log::at("info");
    let fixture = Fixture::start().await;
    let message = stuck().encode_to_vec();
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(&message);

    let tcp = tokio::net::TcpStream::connect(fixture.address)
        .await
        .unwrap();
    let (client, connection) = h2::client::handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post(format!(
        "http://{}/countersign.auth.v1.AuthService/Register",
        fixture.address
    ))
    .header("content-type", "application/grpc")
    .header("grpc-timeout", "30m")
    .header("x-request-id", "late")
    .body(())
    .unwrap();
    let (response, mut body) = client
        .ready()
        .await
        .unwrap()
        .send_request(request, false)
        .unwrap();
    body.send_data(frame.into(), true).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.headers()["x-request-id"], "late");
    let status = Status::from_header_map(response.headers()).unwrap();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let lines = log.access(1).await;
    assert_eq!(lines[0]["fields"]["code"], "DEADLINE_EXCEEDED");
}

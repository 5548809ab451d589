//! Request ids, rate limits by client address, and reflection.

use std::time::Duration;

use countersign::grpc::pb::{
    ListSessionsRequest, LoginRequest, RegisterRequest, ValidateTokenRequest,
};
use tokio_stream::StreamExt;
use tonic::{Code, Request, client::Grpc, codegen::http::uri::PathAndQuery};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::{v1, v1alpha};

use crate::support::{
    PASSWORD, TestDatabase, TestServer, failure, on_both_databases, operator::bearing, reason,
};

fn with_id(id: &str) -> Request<ValidateTokenRequest> {
    let mut request = Request::new(ValidateTokenRequest::default());
    request
        .metadata_mut()
        .insert("x-request-id", id.parse().unwrap());
    request
}

on_both_databases! {
    async fn the_callers_request_id_is_returned_and_an_invalid_one_replaced(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let status = server.auth().validate_token(with_id("trace-42")).await.unwrap_err();
        assert_eq!(status.metadata().get("x-request-id").unwrap(), "trace-42");
        assert_eq!(failure(&status).reason, "TOKEN_MISSING");
        let tokens = server.signed_in("ada@example.org").await;
        let mut request = with_id("trace-43");
        request.get_mut().access_token = tokens.access_token;
        let response = server.auth().validate_token(request).await.unwrap();
        assert_eq!(response.metadata().get("x-request-id").unwrap(), "trace-43");
        for bad in ["two words", &"x".repeat(129)] {
            let status = server.auth().validate_token(with_id(bad)).await.unwrap_err();
            let id = status.metadata().get("x-request-id").unwrap().to_str().unwrap();
            assert_eq!(id.parse::<uuid::Uuid>().unwrap().get_version_num(), 7);
        }
    }

    async fn only_credential_calls_are_limited_by_client_address(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[
            ("COUNTERSIGN_CREDENTIAL_RATE_PER_SECOND", "1"),
            ("COUNTERSIGN_CREDENTIAL_RATE_BURST", "3"),
            ("COUNTERSIGN_TRUSTED_PROXIES", "127.0.0.0/8"),
        ]).await;
        let register_from = async |address: &str| {
            let mut request = Request::new(RegisterRequest::default());
            request.metadata_mut().insert("x-forwarded-for", address.parse().unwrap());
            server.auth().register(request).await
        };
        for _ in 0..3 {
            assert_eq!(reason(register_from("192.0.2.1").await), "INVALID_FIELD");
        }
        let status = register_from("192.0.2.1").await.unwrap_err();
        let limited = failure(&status);
        assert_eq!((limited.code, limited.reason.as_str()), (Code::ResourceExhausted, "RATE_LIMITED"));
        assert_eq!(limited.details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
        assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "1000");
        // What a client writes itself is to the left of what the proxy adds, and is ignored.
        assert_eq!(reason(register_from("203.0.113.9, 192.0.2.1").await), "RATE_LIMITED");
        assert_eq!(reason(register_from("192.0.2.2").await), "INVALID_FIELD");
        let mut health = HealthClient::new(server.channel.clone());
        for _ in 0..10 {
            assert_eq!(reason(server.validate("garbage").await), "TOKEN_INVALID");
            assert_eq!(reason(server.refresh("garbage").await), "REFRESH_TOKEN_INVALID");
            health.check(HealthCheckRequest::default()).await.unwrap();
        }
    }

    async fn an_untrusted_client_cannot_choose_its_address(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[
            ("COUNTERSIGN_CREDENTIAL_RATE_PER_SECOND", "1"),
            ("COUNTERSIGN_CREDENTIAL_RATE_BURST", "2"),
        ]).await;
        let mut reasons = Vec::new();
        for i in 0..3 {
            let mut request = Request::new(RegisterRequest::default());
            let address = format!("192.0.2.{i}");
            request.metadata_mut().insert("x-forwarded-for", address.parse().unwrap());
            reasons.push(reason(server.auth().register(request).await));
        }
        assert_eq!(reasons, ["INVALID_FIELD", "INVALID_FIELD", "RATE_LIMITED"]);
    }

    async fn the_user_agent_that_a_trusted_proxy_forwards_is_that_of_the_session(database: TestDatabase) {
        let agent_of = async |server: &TestServer, email: &str| {
            server.register(email).await.unwrap();
            let mut login = Request::new(LoginRequest {
                email: email.to_owned(), password: PASSWORD.to_owned(), ..LoginRequest::default()
            });
            let metadata = login.metadata_mut();
            metadata.insert("x-forwarded-user-agent", "Browser/1.0".parse().unwrap());
            let tokens = server.auth().login(login).await.unwrap().into_inner().tokens.unwrap();
            let request = bearing(&tokens.access_token, ListSessionsRequest::default());
            let sessions = server.account().list_sessions(request).await.unwrap().into_inner().sessions;
            sessions[0].user_agent.clone()
        };
        let trusting = TestServer::start_with(&database, &[("COUNTERSIGN_TRUSTED_PROXIES", "127.0.0.0/8")]).await;
        assert_eq!(agent_of(&trusting, "ada@example.org").await, "Browser/1.0");
        trusting.stop().await;
        let server = TestServer::start(&database).await;
        let agent = agent_of(&server, "eve@example.org").await;
        assert!(agent.contains("tonic"), "{agent}");
    }

    async fn token_calls_are_limited_when_configured(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[
            ("COUNTERSIGN_TOKEN_RATE_PER_SECOND", "1"),
            ("COUNTERSIGN_TOKEN_RATE_BURST", "2"),
        ]).await;
        assert_eq!(reason(server.validate("garbage").await), "TOKEN_INVALID");
        assert_eq!(reason(server.refresh("garbage").await), "REFRESH_TOKEN_INVALID");
        assert_eq!(reason(server.logout("garbage").await), "RATE_LIMITED");
    }

    async fn reflection_lists_the_services_in_both_versions(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let request = v1::ServerReflectionRequest {
            message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
            ..Default::default()
        };
        let mut client = v1::server_reflection_client::ServerReflectionClient::new(server.channel.clone());
        let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
        let answer = format!("{:?}", answers.next().await.unwrap().unwrap());
        let request = v1alpha::ServerReflectionRequest {
            message_request: Some(v1alpha::server_reflection_request::MessageRequest::ListServices(String::new())),
            ..Default::default()
        };
        let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel.clone());
        let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
        let answer_alpha = format!("{:?}", answers.next().await.unwrap().unwrap());
        for service in ["countersign.auth.v1.AuthService", "grpc.health.v1.Health"] {
            assert!(answer.contains(service) && answer_alpha.contains(service), "{service}");
        }
    }

    async fn unknown_methods_and_oversized_messages_do_not_fail_the_connection(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let mut raw = Grpc::new(server.channel.clone());
        raw.ready().await.unwrap();
        let path = PathAndQuery::from_static("/countersign.auth.v1.AuthService/Nonsense");
        let codec = tonic_prost::ProstCodec::<ValidateTokenRequest, ValidateTokenRequest>::default();
        let unknown = raw.unary(Request::new(ValidateTokenRequest::default()), path, codec).await.unwrap_err();
        assert_eq!(unknown.code(), Code::Unimplemented);
        let huge = server.validate(&"x".repeat(70_000)).await.unwrap_err();
        assert_eq!(huge.code(), Code::OutOfRange);
        assert_eq!(reason(server.validate("garbage").await), "TOKEN_INVALID");
    }
}

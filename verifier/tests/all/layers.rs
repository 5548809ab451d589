//! The layers, by the examples that README shows and by a router of their own.

use std::time::Duration;

use axum::{Router, body::Body, routing::get};
use countersign_verifier::{BearerToken, Credential, Demand, RequireToken, Verifier};
use http::{Request, Response, StatusCode};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tonic::{Code, service::interceptor::InterceptedService, transport::Channel};
use tonic_types::StatusExt as _;
use tower::ServiceExt as _;

use crate::support::{FakeServer, Issuer, config, config_with, connected, id, now_millis, soon};

#[expect(dead_code, reason = "`main` of the example")]
#[path = "../../examples/axum_service.rs"]
mod axum_service;
#[expect(dead_code, reason = "`main` of the example, generated code")]
#[path = "../../examples/tonic_service.rs"]
mod tonic_service;

use tonic_service::shop::{ListOrdersRequest, orders_service_client::OrdersServiceClient};

fn good() -> String {
    Issuer::shared().token(&id(1), &id(2))
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// The whole response to `GET path`.
async fn http_get(address: &str, path: &str, token: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    soon("the response", stream.read_to_string(&mut response))
        .await
        .unwrap();
    response
}

#[tokio::test]
async fn the_axum_example_accepts_only_valid_tokens() {
    let mut server = FakeServer::start().await;
    let (verifier, _watch) = connected(&mut server, config()).await;
    let (listener, address) = listener().await;
    tokio::spawn(axum_service::serve(verifier, listener));
    let accepted = http_get(&address, "/orders", &good()).await;
    assert!(accepted.starts_with("HTTP/1.1 200"), "{accepted}");
    assert!(
        accepted.ends_with(&format!("the orders of {}", id(2))),
        "{accepted}"
    );
    let refused = http_get(&address, "/orders", "x").await;
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    let open = http_get(&address, "/healthz", "x").await;
    assert!(open.starts_with("HTTP/1.1 200"), "{open}");
}

async fn tonic_client(
    verifier: Verifier,
    token: &str,
) -> OrdersServiceClient<InterceptedService<Channel, BearerToken>> {
    let (listener, address) = listener().await;
    let port = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(async move { tonic_service::serve(verifier, port).await.unwrap() });
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    let bearer = BearerToken::new(token).unwrap();
    OrdersServiceClient::with_interceptor(channel.connect_lazy(), bearer)
}

#[tokio::test]
async fn the_tonic_example_accepts_only_valid_tokens() {
    let mut server = FakeServer::start().await;
    let (verifier, _watch) = connected(&mut server, config()).await;
    let mut client = tonic_client(verifier.clone(), &good()).await;
    let orders = client.list_orders(ListOrdersRequest {}).await.unwrap();
    assert_eq!(
        orders.into_inner().orders,
        [format!("the orders of {}", id(2))]
    );

    let no_role = Issuer::shared().token_with(&id(1), &id(2), &json!({"roles": []}));
    let expired = json!({"exp": now_millis() / 1_000 - 1});
    let expired = Issuer::shared().token_with(&id(1), &id(2), &expired);
    for (token, code, reason) in [
        ("x", Code::Unauthenticated, "TOKEN_INVALID"),
        (&expired, Code::Unauthenticated, "TOKEN_EXPIRED"),
        (&no_role, Code::PermissionDenied, "INSUFFICIENT_ROLE"),
    ] {
        let mut client = tonic_client(verifier.clone(), token).await;
        let mut request = tonic::Request::new(ListOrdersRequest {});
        request
            .metadata_mut()
            .insert("x-request-id", "r1".parse().unwrap());
        let status = client.list_orders(request).await.unwrap_err();
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((status.code(), info.reason.as_str()), (code, reason));
        assert_eq!(info.domain, "auth.countersign.v1");
        assert_eq!(details.request_info().unwrap().request_id, "r1");
    }
}

#[tokio::test]
async fn a_verifier_without_a_snapshot_answers_unavailable() {
    let server = FakeServer::start().await;
    let verifier = Verifier::connect_lazy(server.address(), config()).unwrap();
    let mut client = tonic_client(verifier.clone(), &good()).await;
    let status = client.list_orders(ListOrdersRequest {}).await.unwrap_err();
    let details = status.get_error_details();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(
        details.error_info().unwrap().reason,
        "REVOCATION_STATE_STALE"
    );
    let retry = details.retry_info().unwrap().retry_delay;
    assert_eq!(retry, Some(Duration::from_secs(1)));
    let pushback = status.metadata().get("grpc-retry-pushback-ms");
    assert_eq!(pushback.unwrap(), "1000");

    let response = get_through(RequireToken::http(verifier), Some(&good())).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "1");
}

async fn get_through(layer: RequireToken, token: Option<&str>) -> Response<Body> {
    let app = Router::new()
        .route("/", get(|| async { "in" }))
        .layer(layer);
    let mut request = Request::get("/");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    app.oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap()
}

#[tokio::test]
async fn http_refusals_are_those_of_rfc_6750_and_rfc_9470() {
    let mut server = FakeServer::start().await;
    let (verifier, _watch) = connected(&mut server, config()).await;
    let layer = RequireToken::http(verifier);
    let step_up = Demand::new()
        .max_auth_age(Duration::from_secs(60))
        .acceptable_acr("urn:countersign:acr:2");
    for (layer, token, status, challenge) in [
        (layer.clone(), None, 401, "Bearer"),
        (
            layer.clone(),
            Some("x".to_owned()),
            401,
            r#"Bearer error="invalid_token", error_description="The access token is not valid.""#,
        ),
        (
            layer.clone().demand(Demand::new().role("writer")),
            Some(good()),
            403,
            r#"Bearer error="insufficient_scope", error_description="The token lacks a required role.""#,
        ),
        (
            layer.clone().demand(step_up),
            Some(good()),
            401,
            r#"Bearer error="insufficient_user_authentication", error_description="The login behind the token is too old or too weak.", acr_values="urn:countersign:acr:2", max_age="60""#,
        ),
    ] {
        let response = get_through(layer, token.as_deref()).await;
        assert_eq!(response.status().as_u16(), status, "{challenge}");
        assert_eq!(response.headers()["www-authenticate"], challenge);
    }
    let accepted = get_through(layer.clone(), Some(&good())).await;
    assert_eq!(accepted.status(), StatusCode::OK);
    let open = get_through(layer.open("/"), None).await;
    assert_eq!(open.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_token_of_a_request_is_sent_on_to_the_next_service_and_missing_without_the_layer() {
    let mut server = FakeServer::start().await;
    let (verifier, _watch) = connected(&mut server, config()).await;
    let (listener, address) = listener().await;
    let port = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let next = verifier.clone();
    tokio::spawn(async move { tonic_service::serve(next, port).await.unwrap() });
    let asks_next = move |request: axum::extract::Request| {
        let channel = Channel::from_shared(format!("http://{address}")).unwrap();
        async move {
            let bearer = match BearerToken::of(request.extensions()) {
                Ok(bearer) => bearer,
                Err(status) => return format!("{:?}", status.code()),
            };
            let mut client = OrdersServiceClient::with_interceptor(channel.connect_lazy(), bearer);
            let orders = client.list_orders(ListOrdersRequest {}).await.unwrap();
            orders.into_inner().orders.concat()
        }
    };
    let open = Router::new().route("/", get(asks_next));
    let protected = open.clone().layer(RequireToken::http(verifier));
    let the_users = format!("the orders of {}", id(2));
    for (app, expected) in [(protected, the_users.as_str()), (open, "Unauthenticated")] {
        let request = Request::get("/").header("authorization", format!("Bearer {}", good()));
        let response = app.oneshot(request.body(Body::empty()).unwrap()).await;
        let body = axum::body::to_bytes(response.unwrap().into_body(), 1_000).await;
        assert_eq!(body.unwrap(), expected);
    }
}

#[test]
fn the_examples_have_at_most_40_lines_and_the_service_in_readme_10_in_main() {
    for (name, text) in [
        ("axum", include_str!("../../examples/axum_service.rs")),
        ("tonic", include_str!("../../examples/tonic_service.rs")),
    ] {
        assert!(text.lines().count() <= 40, "{name}");
    }
    let readme = include_str!("../../README.md");
    let (_, main) = readme.split_once("async fn main()").unwrap();
    let (main, _) = main.split_once("\n}\n").unwrap();
    assert!((2..=11).contains(&main.lines().count()), "{main}");
}

#[test]
fn a_credential_is_not_printed() {
    let config = config_with(Credential::access_token("secret"));
    assert!(!format!("{config:?}").contains("secret"));
}

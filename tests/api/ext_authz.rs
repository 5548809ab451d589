//! `envoy.service.auth.v3.Authorization/Check`: which requests pass a gateway, with which identity, and what the others are
//! told. `tests/interop` asks the same of a real Envoy.

use std::{collections::HashMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use countersign::grpc::ext_authz_pb::{
    AttributeContext, CheckRequest, DeniedHttpResponse, OkHttpResponse,
    attribute_context::{HttpRequest, Request as AttributeRequest},
    authorization_client::AuthorizationClient,
    check_response::HttpResponse,
};
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::time::timeout;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::{
    Kind, PATIENCE, TestDatabase, TestServer, on_both_databases, proxy::Proxy, reason,
};

const ONE_FACTOR: &str = "urn:countersign:acr:1";
const TWO_FACTORS: &str = "urn:countersign:acr:2";
const IDENTITY: [&str; 3] = [
    "x-countersign-user-id",
    "x-countersign-session-id",
    "x-countersign-roles",
];

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn map(pairs: Pairs<'_>) -> HashMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// Asks about a request with these headers on a route with these demands, as Envoy does: without a bearer of its own.
async fn check(
    server: &TestServer,
    headers: Pairs<'_>,
    demands: Pairs<'_>,
) -> Result<HttpResponse, Status> {
    let request = CheckRequest {
        attributes: Some(AttributeContext {
            request: Some(AttributeRequest {
                http: Some(HttpRequest {
                    headers: map(headers),
                    header_map: None,
                }),
            }),
            context_extensions: map(demands),
        }),
    };
    let mut client = AuthorizationClient::new(server.channel.clone());
    let response = client.check(request).await?.into_inner();
    let passes = response
        .status
        .expect("a missing status lets Envoy pass the request")
        .code
        == 0;
    let answer = response.http_response.unwrap();
    assert_eq!(passes, matches!(answer, HttpResponse::OkResponse(_)));
    Ok(answer)
}

async fn allowed(server: &TestServer, headers: Pairs<'_>, demands: Pairs<'_>) -> OkHttpResponse {
    match check(server, headers, demands).await.unwrap() {
        HttpResponse::OkResponse(ok) => ok,
        HttpResponse::DeniedResponse(denied) => panic!("it is refused: {denied:?}"),
    }
}

/// A refusal: its HTTP status, headers and body.
struct Denied {
    status: i32,
    headers: HeaderMap,
    body: String,
}

impl From<DeniedHttpResponse> for Denied {
    fn from(denied: DeniedHttpResponse) -> Self {
        let mut headers = HeaderMap::new();
        for header in denied.headers {
            let header = header.header.unwrap();
            let name: http::HeaderName = header.key.parse().unwrap();
            assert!(!headers.contains_key(&name), "{name} comes twice");
            headers.insert(name, header.value.parse().unwrap());
        }
        Self {
            status: denied.status.unwrap().code,
            headers,
            body: denied.body,
        }
    }
}

impl Denied {
    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The detail of that type in the JSON body.
    fn detail(&self, name: &str) -> Value {
        let body: Value = serde_json::from_str(&self.body).unwrap();
        let kind = format!("type.googleapis.com/google.rpc.{name}");
        let mut details = body["details"].as_array().unwrap().iter();
        details
            .find(|detail| detail["@type"] == kind)
            .cloned()
            .unwrap_or_default()
    }

    fn reason(&self) -> String {
        self.detail("ErrorInfo")["reason"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

async fn denied(server: &TestServer, headers: Pairs<'_>, demands: Pairs<'_>) -> Denied {
    match check(server, headers, demands).await.unwrap() {
        HttpResponse::DeniedResponse(denied) => denied.into(),
        HttpResponse::OkResponse(ok) => panic!("it passes: {ok:?}"),
    }
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

on_both_databases! {
    async fn a_valid_token_sets_identity_headers_that_a_client_cannot_forge(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in_as("ada@example.org", "admin billing:read").await;
        let valid = server.validate(&tokens.access_token).await.unwrap();
        let authorization = bearer(&tokens.access_token);
        let ok = allowed(&server, &[("authorization", &authorization)], &[]).await;
        let set: Vec<_> = ok.headers.iter().map(|option| {
            assert_eq!(option.append_action().as_str_name(), "OVERWRITE_IF_EXISTS_OR_ADD");
            let header = option.header.as_ref().unwrap();
            (header.key.as_str(), header.value.as_str())
        }).collect();
        let values = [valid.user_id.as_str(), &tokens.session_id, "admin,billing:read"];
        assert_eq!(set, IDENTITY.into_iter().zip(values).collect::<Vec<_>>());
        // Envoy removes after it has set.
        for name in IDENTITY {
            assert!(!ok.headers_to_remove.iter().any(|removed| removed == name));
            let underscores = name.replace('-', "_");
            assert!(ok.headers_to_remove.contains(&underscores), "{underscores}");
        }
        assert!(!ok.headers_to_remove.contains(&"authorization".to_owned()));
        let demands = [("remove_authorization", "true"), ("required_roles", "admin,billing:read"),
            ("audience", "countersign"), ("max_auth_age", "60"), ("acceptable_acrs", ONE_FACTOR)];
        let ok = allowed(&server, &[("authorization", &authorization)], &demands).await;
        assert!(ok.headers_to_remove.contains(&"authorization".to_owned()));
    }

    async fn an_identity_without_roles_removes_the_roles_that_a_client_sends(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        let ok = allowed(&server, &[("authorization", &bearer(&tokens.access_token))], &[]).await;
        assert_eq!(ok.headers.len(), 2);
        assert!(ok.headers_to_remove.contains(&"x-countersign-roles".to_owned()));
    }

    async fn an_invalid_token_is_answered_with_status_challenge_and_reason(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        let ended = server.login("ada@example.org").await.unwrap();
        server.logout(&ended.refresh_token).await.unwrap();
        let invalid = |description: &str| {
            format!("Bearer error=\"invalid_token\", error_description=\"{description}\"")
        };
        let expect = async |authorization: &str, reason: &str, challenge: &str| {
            let headers = [("authorization", authorization), ("x-request-id", "from-the-proxy")];
            let denied = denied(&server, &headers, &[]).await;
            assert_eq!((denied.status, denied.reason().as_str()), (401, reason), "{authorization}");
            assert_eq!(denied.header("www-authenticate"), challenge);
            assert_eq!(denied.header("content-type"), "application/json");
            assert_eq!(denied.header("x-request-id"), "from-the-proxy");
            assert_eq!(denied.detail("RequestInfo")["requestId"], "from-the-proxy");
            assert_eq!(denied.detail("ErrorInfo")["domain"], "auth.countersign.v1");
        };
        let missing = "Bearer realm=\"countersign\"";
        expect("", "TOKEN_MISSING", missing).await;
        expect("Basic YTpi", "TOKEN_MISSING", missing).await;
        let not_valid = invalid("The access token is not valid.");
        expect("Bearer garbage", "TOKEN_INVALID", &not_valid).await;
        // Envoy joins several headers of one name by a comma.
        let twice = [bearer(&tokens.access_token), bearer(&tokens.access_token)].join(",");
        expect(&twice, "TOKEN_INVALID", &not_valid).await;
        let revoked = invalid("The access token has been revoked.");
        expect(&bearer(&ended.access_token), "TOKEN_REVOKED", &revoked).await;
        server.clock.advance(Duration::from_secs(900));
        let expired = invalid("The access token has expired.");
        expect(&bearer(&tokens.access_token), "TOKEN_EXPIRED", &expired).await;
    }

    async fn the_demands_of_a_route_are_enforced(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[("COUNTERSIGN_AUDIENCES", "api,billing")]).await;
        let tokens = server.signed_in_as("ada@example.org", "verifier").await;
        let authorization = bearer(&tokens.access_token);
        let headers = [("authorization", authorization.as_str())];
        let demand = async |demands: Pairs<'_>| denied(&server, &headers, demands).await;
        let refused = demand(&[("required_roles", "verifier,admin")]).await;
        assert_eq!((refused.status, refused.reason().as_str()), (403, "INSUFFICIENT_ROLE"));
        assert!(refused.header("www-authenticate").starts_with("Bearer error=\"insufficient_scope\""));
        let refused = demand(&[("audience", "orders")]).await;
        assert_eq!((refused.status, refused.reason().as_str()), (401, "TOKEN_INVALID"));
        // RFC 9470 section 3.
        let both = format!("{TWO_FACTORS} urn:countersign:acr:phr");
        server.clock.advance(Duration::from_secs(61));
        let refused = demand(&[("acceptable_acrs", &both), ("max_auth_age", "60")]).await;
        assert_eq!((refused.status, refused.reason().as_str()), (401, "STEP_UP_REQUIRED"));
        let challenge = refused.header("www-authenticate");
        let start = "Bearer error=\"insufficient_user_authentication\", error_description=\"";
        assert!(challenge.starts_with(start), "{challenge}");
        let end = format!("\", acr_values=\"{both}\", max_age=\"60\"");
        assert!(challenge.ends_with(&end), "{challenge}");
        let metadata = &refused.detail("ErrorInfo")["metadata"];
        assert_eq!(*metadata, json!({"acr_values": both, "max_age": "60"}));
        allowed(&server, &headers, &[("audience", "billing"), ("required_roles", "verifier")]).await;
    }

    async fn a_grpc_client_gets_the_status_with_its_details(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        let authorization = bearer(&tokens.access_token);
        for (authorization, roles, code, reason) in [
            ("Bearer garbage", "admin", Code::Unauthenticated, "TOKEN_INVALID"),
            (&authorization, "admin", Code::PermissionDenied, "INSUFFICIENT_ROLE"),
        ] {
            let headers = [("authorization", authorization), ("content-type", "application/grpc+proto")];
            let denied = denied(&server, &headers, &[("required_roles", roles)]).await;
            assert_eq!(denied.body, "");
            let details = denied.header("grpc-status-details-bin").trim_end_matches('=');
            STANDARD_NO_PAD.decode(details).expect("base64");
            let status = Status::from_header_map(&denied.headers).unwrap();
            let info = status.get_details_error_info().unwrap();
            assert_eq!((status.code(), info.reason.as_str()), (code, reason));
            let request = status.get_details_request_info().unwrap();
            // The proxied request has no id, so it is that of the question.
            assert_eq!(request.request_id, denied.header("x-request-id"));
        }
    }

    async fn a_route_with_optional_login_allows_no_token_but_denies_an_invalid_one(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        let demands = [("optional", "true"), ("required_roles", "admin")];
        for headers in [[].as_slice(), &[("authorization", "Basic YTpi")]] {
            let ok = allowed(&server, headers, &demands).await;
            assert!(ok.headers.is_empty());
            for name in IDENTITY {
                assert!(ok.headers_to_remove.contains(&name.to_owned()), "{name}");
            }
        }
        let refused = denied(&server, &[("authorization", "Bearer garbage")], &demands).await;
        assert_eq!((refused.status, refused.reason().as_str()), (401, "TOKEN_INVALID"));
        let authorization = bearer(&tokens.access_token);
        let refused = denied(&server, &[("authorization", &authorization)], &demands).await;
        assert_eq!((refused.status, refused.reason().as_str()), (403, "INSUFFICIENT_ROLE"));
    }

    async fn a_route_with_invalid_context_extensions_denies_every_request(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in_as("ada@example.org", "admin").await;
        let authorization = bearer(&tokens.access_token);
        for demand in [("required_role", "admin"), ("required_roles", ""), ("max_auth_age", "5m")] {
            let answer = check(&server, &[("authorization", &authorization)], &[demand]).await;
            assert_eq!(reason(answer), "INVALID_FIELD");
        }
    }

    async fn a_request_with_many_headers_is_judged(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        let (large, authorization) = ("x".repeat(32 << 10), bearer(&tokens.access_token));
        let headers = [("authorization", authorization.as_str()), ("cookie", &large)];
        allowed(&server, &headers, &[]).await;
    }

    async fn a_check_without_a_request_is_denied(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let mut client = AuthorizationClient::new(server.channel.clone());
        let response = client.check(CheckRequest { attributes: None }).await.unwrap().into_inner();
        assert_eq!(response.status.unwrap().code, Code::Unauthenticated as i32);
    }

    async fn checks_count_against_the_rate_of_token_calls(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[
            ("COUNTERSIGN_TOKEN_RATE_PER_SECOND", "1"),
            ("COUNTERSIGN_TOKEN_RATE_BURST", "2"),
        ]).await;
        for _ in 0..2 {
            denied(&server, &[], &[]).await;
        }
        assert_eq!(reason(check(&server, &[], &[]).await), "RATE_LIMITED");
    }
}

/// "Unknown" is not "invalid": a browser must not be logged out by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_revocations_are_answered_with_503() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let proxy = Proxy::before(&database.url).await;
    let settings = [
        ("COUNTERSIGN_DATABASE_URL", proxy.url.as_str()),
        ("COUNTERSIGN_STALE_POLICY", "reject"),
        ("COUNTERSIGN_REVOCATION_MAX_STALENESS", "60s"),
        ("COUNTERSIGN_REVOCATION_POLL_INTERVAL", "1s"),
    ];
    let server = TestServer::start_with(&database, &settings).await;
    let tokens = server.signed_in("ada@example.org").await;
    let authorization = bearer(&tokens.access_token);
    let headers = [("authorization", authorization.as_str())];
    proxy.cut();
    allowed(&server, &headers, &[]).await;
    // A read that was under way when the connection was cut may still have been counted.
    let refused = timeout(PATIENCE, async {
        loop {
            server.clock.advance(Duration::from_secs(61));
            if let HttpResponse::DeniedResponse(denied) =
                check(&server, &headers, &[]).await.unwrap()
            {
                return Denied::from(denied);
            }
        }
    });
    let refused = refused.await.expect("knowledge grows old");
    assert_eq!(
        (refused.status, refused.reason().as_str()),
        (503, "REVOCATION_STATE_STALE")
    );
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(refused.header("www-authenticate"), "");
    assert_eq!(refused.detail("RetryInfo")["retryDelay"], "1s");
}

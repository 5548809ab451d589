//! gRPC-Web and CORS: what a browser sends and reads, written out. `scripts/web` does the same with a real browser.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use countersign::grpc::pb::{ValidateTokenRequest, ValidateTokenResponse};
use h2::Reason as ResetReason;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    protocol::{counted, in_flight, malformed_bodies},
    support::{
        TestDatabase, TestServer, eventually, failure, on_both_databases,
        process::TestProcess,
        raw::{Answer, Call, Connection, frame, whole},
        reason, web,
    },
};

const ORIGIN: &str = "https://app.example.com";
const LOGIN: &str = "/countersign.auth.v1.AuthService/Login";
const VALIDATE: &str = "/countersign.auth.v1.AuthService/ValidateToken";
const ALLOW_ORIGIN: &str = "access-control-allow-origin";

async fn start(database: &TestDatabase) -> TestServer {
    let origins = format!("https://other.example.com, {ORIGIN}");
    TestServer::start_with(database, &[("COUNTERSIGN_CORS_ORIGINS", &origins)]).await
}

/// ValidateToken as a page calls it.
fn validate(access_token: &str) -> Call {
    let message = ValidateTokenRequest {
        access_token: access_token.to_owned(),
        ..Default::default()
    };
    Call::new(VALIDATE, [whole(&message.encode_to_vec())])
        .header("te", "")
        .header("content-type", "application/grpc-web+proto")
        .header("x-grpc-web", "1")
        .header("origin", ORIGIN)
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer
        .headers
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

/// The frames of a response body: the message, and the trailers as one more frame.
fn frames(mut body: &[u8]) -> (Option<&[u8]>, HeaderMap) {
    let (mut message, mut trailers) = (None, HeaderMap::new());
    while let Some((&[flag, a, b, c, d], rest)) = body.split_first_chunk::<5>() {
        let (frame, next) = rest.split_at(u32::from_be_bytes([a, b, c, d]) as usize);
        match flag {
            0 => message = Some(frame),
            _ => {
                for line in str::from_utf8(frame).unwrap().split_terminator("\r\n") {
                    let (name, value) = line.split_once(':').unwrap();
                    let name: HeaderName = name.parse().unwrap();
                    trailers.insert(name, HeaderValue::from_str(value.trim()).unwrap());
                }
            }
        }
        body = next;
    }
    (message, trailers)
}

on_both_databases! {
    async fn a_page_of_a_configured_origin_validates_a_token(database: TestDatabase) {
        let server = start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        let answer = validate(&tokens.access_token).send(server.address).await.unwrap();
        assert_eq!(answer.http_status, StatusCode::OK);
        assert_eq!(header(&answer, "content-type"), "application/grpc-web+proto");
        assert_eq!(header(&answer, ALLOW_ORIGIN), ORIGIN);
        let (message, trailers) = frames(&answer.body);
        let valid = ValidateTokenResponse::decode(message.unwrap()).unwrap();
        assert_eq!(valid.session_id, tokens.session_id);
        assert_eq!(trailers["grpc-status"], "0");
        // The text form, for clients without binary streams.
        let text = STANDARD.encode(whole(&ValidateTokenRequest {
            access_token: tokens.access_token, ..Default::default()
        }.encode_to_vec()));
        let mut call = validate("").header("content-type", "application/grpc-web-text");
        call.frames = vec![Bytes::from(text)];
        let answer = call.header("accept", "application/grpc-web-text").send(server.address).await.unwrap();
        assert_eq!(header(&answer, "content-type"), "application/grpc-web-text+proto");
        assert_eq!(answer.http_status, StatusCode::OK);
        assert!(answer.body.iter().all(u8::is_ascii));
    }

    async fn a_page_can_read_why_a_call_failed(database: TestDatabase) {
        let server = start(&database).await;
        let answer = validate("garbage").header("x-request-id", "from-the-page").send(server.address).await.unwrap();
        let (_, trailers) = frames(&answer.body);
        let mut headers = answer.headers.clone();
        headers.extend(trailers);
        let status = Status::from_header_map(&headers).expect("a status in headers or trailers");
        assert_eq!(status.code(), Code::Unauthenticated);
        assert_eq!(status.get_details_error_info().unwrap().reason, "TOKEN_INVALID");
        assert_eq!(header(&answer, "x-request-id"), "from-the-page");
        let exposed = header(&answer, "access-control-expose-headers");
        for name in ["grpc-status", "grpc-message", "grpc-status-details-bin", "x-request-id"] {
            assert!(exposed.split(',').any(|exposed| exposed == name), "{name}: {exposed}");
        }
    }

    async fn a_malformed_body_of_a_page_is_invalid_argument(database: TestDatabase) {
        let server = start(&database).await;
        let text = |text: &'static str| vec![Bytes::from_static(text.as_bytes())];
        let mut bodies: Vec<_> = malformed_bodies().into_iter()
            .map(|(what, frames)| (what, "application/grpc-web+proto", frames)).collect();
        bodies.extend([
            ("no base64", "application/grpc-web-text", text("!!!!")),
            ("base64 that is cut off", "application/grpc-web-text", text("AAAAAAA")),
            ("base64 of less than announced", "application/grpc-web-text", text("AAAAAAkK")),
        ]);
        for (what, content_type, frames) in bodies {
            for path in [VALIDATE, LOGIN] {
                let mut call = validate("").header("content-type", content_type);
                (call.path, call.frames) = (path.to_owned(), frames.clone());
                let failure = failure(&call.send(server.address).await.unwrap().status());
                assert_eq!((failure.code, failure.reason.as_str()), (Code::InvalidArgument, "INVALID_FIELD"), "{what}");
            }
        }
    }

    async fn a_request_of_a_page_for_which_there_is_no_memory_is_overloaded(database: TestDatabase) {
        let settings = [("COUNTERSIGN_CORS_ORIGINS", ORIGIN), ("COUNTERSIGN_MAX_REQUEST_MEMORY", "1048576")];
        let server = TestServer::start_with(&database, &settings).await;
        let connection = Connection::open(server.address).await;
        let mut held = Vec::new();
        eventually("the share of the address is used up", async || {
            held.push(connection.begin(Call::new(LOGIN, [frame(0, 60_000, &[b'x'; 15_000])])).await);
            let mut call = validate("").header("x-large", &"x".repeat(10_000));
            LOGIN.clone_into(&mut call.path);
            let answer = connection.send(call).await.unwrap();
            let failure = failure(&answer.status());
            assert!(["INVALID_FIELD", "OVERLOADED"].contains(&failure.reason.as_str()), "{failure:?}");
            failure.reason == "OVERLOADED"
        }).await;
    }

    async fn a_request_of_a_page_that_is_closed_is_cancelled(database: TestDatabase) {
        let server = TestProcess::start_with(&database, &[("COUNTERSIGN_CORS_ORIGINS", ORIGIN)]).await;
        let mut call = validate("");
        (call.path, call.frames) = (LOGIN.to_owned(), vec![frame(0, 9, b"x")]);
        let begun = call.begin(server.address).await;
        in_flight(server.http(), "Login").await;
        let _connection = begun.reset(ResetReason::CANCEL);
        counted(server.http(), "Login", "Canceled", 1).await;
    }

    async fn only_pages_of_configured_origins_may_call(database: TestDatabase) {
        let server = start(&database).await;
        let preflight = async |origin: &str| {
            Call::new(VALIDATE, [])
                .method(Method::OPTIONS)
                .header("te", "").header("content-type", "")
                .header("origin", origin)
                .header("access-control-request-method", "POST")
                .header("access-control-request-headers", "authorization,content-type,x-grpc-web")
                .send(server.address).await.unwrap()
        };
        let answer = preflight(ORIGIN).await;
        assert_eq!((answer.http_status, header(&answer, ALLOW_ORIGIN)), (StatusCode::OK, ORIGIN));
        assert_eq!(header(&answer, "access-control-allow-methods"), "POST");
        let allowed = header(&answer, "access-control-allow-headers");
        for name in ["authorization", "content-type", "x-grpc-web", "grpc-timeout"] {
            assert!(allowed.split(',').any(|allowed| allowed == name), "{name}: {allowed}");
        }
        assert_eq!(header(&answer, "access-control-allow-credentials"), "");
        for origin in ["https://elsewhere.example.com", "http://app.example.com", "https://app.example.com:8443",
            "https://sub.app.example.com", "https://app.example.com.evil.example", "null"]
        {
            assert_eq!(header(&preflight(origin).await, ALLOW_ORIGIN), "", "{origin}");
            let answer = validate("garbage").header("origin", origin).send(server.address).await.unwrap();
            assert_eq!(header(&answer, ALLOW_ORIGIN), "", "{origin}");
        }
    }

    async fn other_clients_are_served_on_a_port_with_grpc_web(database: TestDatabase) {
        let server = start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        server.validate(&tokens.access_token).await.unwrap();
        assert_eq!(reason(server.validate("garbage").await), "TOKEN_INVALID");
    }

    async fn without_origins_grpc_web_is_refused(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let answer = validate("garbage").send(server.address).await.unwrap();
        assert_eq!(answer.http_status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert_eq!(header(&answer, ALLOW_ORIGIN), "");
    }

    async fn every_page_may_read_the_public_documents_and_nothing_else_over_http(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let origin = "origin: https://elsewhere.example.com\r\n";
        for path in ["/.well-known/jwks.json", "/.well-known/oauth-authorization-server"] {
            let answer = web::get_with(server.http(), path, origin).await;
            assert_eq!((answer.status, answer.header(ALLOW_ORIGIN)), (200, "*"), "{path}");
            assert_eq!((answer.header("access-control-expose-headers"), answer.header("vary")), ("etag", ""));
            let preflight = format!("OPTIONS {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{origin}\
                access-control-request-method: GET\r\naccess-control-request-headers: if-none-match\r\n\r\n");
            let answer = web::send(server.http(), &preflight).await;
            assert_eq!((answer.status, answer.header(ALLOW_ORIGIN)), (200, "*"), "{path}");
            assert_eq!(answer.header("access-control-allow-headers"), "if-none-match");
        }
        for path in ["/metrics", "/healthz", "/readyz"] {
            let answer = web::get_with(server.http(), path, origin).await;
            assert_eq!(answer.header(ALLOW_ORIGIN), "", "{path}");
        }
    }
}

//! Requests that break the gRPC protocol: each gets the status of its kind, never INTERNAL, and is
//! counted and logged so.

use std::net::SocketAddr;

use bytes::Bytes;
use countersign::grpc::{
    DESCRIPTORS,
    pb::{LoginRequest, ValidateTokenRequest},
};
use h2::Reason as ResetReason;
use http::{Method, StatusCode};
use prost::Message as _;
use rustix::process::Signal;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tonic::Code;

use crate::support::{
    PASSWORD, PATIENCE, TestDatabase, TestServer, eventually, failure, on_both_databases,
    process::TestProcess,
    raw::{Call, Connection, End, frame, whole},
    web,
};

const LOGIN: &str = "/countersign.auth.v1.AuthService/Login";
const VALIDATE: &str = "/countersign.auth.v1.AuthService/ValidateToken";
const CHECK: &str = "/grpc.health.v1.Health/Check";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

fn bytes(bytes: &'static [u8]) -> Bytes {
    Bytes::from_static(bytes)
}

/// Bodies that are not one whole message of any method, as DATA frames.
pub fn malformed_bodies() -> Vec<(&'static str, Vec<Bytes>)> {
    vec![
        ("nothing", vec![]),
        ("an empty frame", vec![Bytes::new()]),
        ("half a prefix", vec![bytes(&[0, 0])]),
        ("JSON", vec![bytes(b"{\"email\":\"ada@example.org\"}")]),
        ("text", vec![bytes(b"secret")]),
        ("no protobuf", vec![whole(b"\xff\xff\xff")]),
        ("text that is not UTF-8", vec![whole(b"\x0a\x07secret\xff")]),
        ("a field that is cut off", vec![whole(b"\x0a\x7fsecret")]),
        ("less than announced", vec![frame(0, 9, b"\x0a\x01a")]),
        ("more than announced", vec![frame(0, 3, b"\x0a\x01a!")]),
        ("an unknown flag", vec![frame(7, 3, b"\x0a\x01a")]),
        ("an undeclared compression", vec![frame(1, 3, b"\x0a\x01a")]),
        (
            "frames that do not end with the message",
            vec![bytes(&[0, 0, 0]), bytes(&[0, 9]), bytes(b"\x0a\x01")],
        ),
    ]
}

/// Waits until the process has counted so many calls of the method with that code.
pub async fn counted(http: SocketAddr, method: &str, code: &str, count: usize) {
    let labels = format!(r#"grpc_method="{method}",grpc_code="{code}""#);
    let what = format!("{count} calls of {method} that end with {code}");
    eventually(&what, async || {
        let text = web::get(http, "/metrics").await.body;
        let line = text
            .lines()
            .find(|line| line.starts_with("grpc_server_handled_total") && line.contains(&labels));
        line.is_some_and(|line| line.ends_with(&format!(" {count}")))
    })
    .await;
}

/// Waits until the process handles one call of the method.
pub async fn in_flight(http: SocketAddr, method: &str) {
    let labels = format!(r#"grpc_method="{method}""#);
    eventually(&format!("a call of {method} in flight"), async || {
        let text = web::get(http, "/metrics").await.body;
        let line = text
            .lines()
            .find(|line| line.starts_with("grpc_server_in_flight{") && line.contains(&labels));
        line.is_some_and(|line| line.ends_with(" 1"))
    })
    .await;
}

/// No call has been counted as a fault of the service.
async fn assert_no_fault(http: SocketAddr) {
    let text = web::get(http, "/metrics").await.body;
    for line in text.lines() {
        let is_fault = ["Internal", "Unknown", "DataLoss"]
            .iter()
            .any(|code| line.contains(&format!(r#"grpc_code="{code}""#)));
        assert!(!is_fault || line.ends_with(" 0"), "{line}");
    }
}

on_both_databases! {
    async fn a_malformed_message_is_invalid_argument(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let connection = Connection::open(server.address).await;
        for (what, frames) in malformed_bodies() {
            for path in [LOGIN, VALIDATE, CHECK] {
                for end in [End::Stream, End::Trailers] {
                    // tonic drops what lies between a whole message and trailers.
                    if what == "more than announced" && end == End::Trailers {
                        continue;
                    }
                    let call = Call::new(path, frames.clone()).end(end);
                    let answer = connection.send(call).await.expect("an answer");
                    assert_eq!(answer.http_status, StatusCode::OK);
                    let failure = failure(&answer.status());
                    assert_eq!(failure.reason, "INVALID_FIELD", "{what} to {path}");
                    let violations = &failure.details.bad_request().unwrap().field_violations;
                    assert_eq!(violations[0].reason, "MALFORMED");
                    assert!(!format!("{answer:?}").contains("secret"));
                }
            }
        }
    }

    async fn a_message_over_the_limit_is_out_of_range_whatever_its_method(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[("COUNTERSIGN_MAX_MESSAGE_SIZE", "5000")]).await;
        let connection = Connection::open(server.address).await;
        for path in [LOGIN, VALIDATE, CHECK] {
            let fits = connection.send(Call::new(path, [whole(&[0; 5_000])])).await.unwrap();
            assert_eq!(failure(&fits.status()).reason, "INVALID_FIELD");
            for frames in [vec![whole(&[0; 5_001])], vec![frame(0, u32::MAX as usize, &[0; 9])]] {
                let answer = connection.send(Call::new(path, frames)).await.unwrap();
                let status = answer.status();
                assert_eq!(status.code(), Code::OutOfRange, "{path}");
                assert_eq!(status.message(), "The request message is too large.");
            }
        }
        let stream = connection.send(Call::new(REFLECTION, [whole(&[0; 5_001])])).await.unwrap();
        assert_eq!(stream.body, Bytes::new());
    }

    async fn requests_that_are_not_grpc_get_an_http_status(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let body = || [whole(&LoginRequest::default().encode_to_vec())];
        for content_type in ["", "application/json", "application/grpc+json", "application/grpc-web", "text/html"] {
            for path in [LOGIN, VALIDATE, CHECK, "/", "/index.html"] {
                let call = Call::new(path, body()).header("content-type", content_type);
                let answer = call.send(server.address).await.unwrap();
                assert_eq!(answer.http_status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{content_type}");
                assert_eq!(failure(&answer.status()).reason, "INVALID_FIELD");
            }
        }
        for method in [Method::GET, Method::PUT, Method::DELETE, Method::OPTIONS] {
            for path in [LOGIN, VALIDATE, "/"] {
                let answer = Call::new(path, []).method(method.clone()).send(server.address).await.unwrap();
                assert_eq!(answer.http_status, StatusCode::METHOD_NOT_ALLOWED);
                assert_eq!(answer.headers["allow"], "POST");
                assert_eq!(failure(&answer.status()).reason, "INVALID_FIELD");
            }
        }
        // `te: trailers` serves to detect proxies that cannot forward trailers; the call works without it.
        for content_type in ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"] {
            let call = Call::new(VALIDATE, body()).header("te", "").header("content-type", content_type);
            let answer = call.send(server.address).await.unwrap();
            assert_eq!(failure(&answer.status()).reason, "TOKEN_MISSING");
        }
    }

    async fn unimplemented_names_service_or_method_without_repeating_the_path(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let no_service = "This server has no such service.";
        let no_method = "The service countersign.auth.v1.AuthService has no such method.";
        for (path, message) in [
            ("/who.is/ada@example.org", no_service),
            ("/", no_service),
            ("//countersign.auth.v1.AuthService/Login", no_service),
            ("/countersign.auth.v1.authservice/Login", no_service),
            ("/countersign.auth.v1.AuthService/ada", no_method),
            ("/countersign.auth.v1.AuthService/login", no_method),
            ("/countersign.auth.v1.AuthService/Login/", no_method),
            ("/countersign.auth.v1.AuthService//Login", no_method),
        ] {
            for frames in [vec![], vec![whole(b"")], vec![bytes(b"x")]] {
                let answer = Call::new(path, frames).send(server.address).await.unwrap();
                let status = answer.status();
                assert_eq!((status.code(), status.message()), (Code::Unimplemented, message), "{path}");
            }
        }
        for path in [LOGIN, VALIDATE, CHECK] {
            let call = Call::new(path, [frame(1, 1, b"x")]).header("grpc-encoding", "gzip");
            let answer = call.send(server.address).await.unwrap();
            assert_eq!(answer.status().code(), Code::Unimplemented);
            let message = "Compressed requests are not supported; send grpc-encoding: identity.";
            assert_eq!(answer.status().message(), message);
            assert_eq!(answer.headers["grpc-accept-encoding"], "identity");
        }
        let message = ValidateTokenRequest::default().encode_to_vec();
        let call = Call::new(VALIDATE, [whole(&message)]).header("grpc-encoding", "identity");
        let answer = call.send(server.address).await.unwrap();
        assert_eq!(failure(&answer.status()).reason, "TOKEN_MISSING");
    }

    async fn a_guarded_method_is_refused_without_a_token_however_its_path_is_written(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let files = prost_types::FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
        let mut guarded = 0;
        for file in &files {
            for service in &file.service {
                for method in &service.method {
                    let service = format!("{}.{}", file.package(), service.name());
                    let method = method.name();
                    let send = async |path: String| {
                        let answer = Call::new(&path, [whole(b"")]).send(server.address).await.unwrap();
                        answer.status()
                    };
                    let open = service.ends_with(".AuthService")
                        || service.ends_with(".TokenService")
                        || service == "envoy.service.auth.v3.Authorization"
                        || service == "grpc.health.v1.Health"
                        || ["GetJwks", "VerifyEmail", "RequestPasswordReset", "ResetPassword"].contains(&method);
                    if !open {
                        let status = send(format!("/{service}/{method}")).await;
                        assert_eq!(failure(&status).reason, "TOKEN_MISSING", "{method}");
                        guarded += 1;
                    }
                    for path in [
                        format!("/{service}/{}", method.to_lowercase()),
                        format!("/{service}/{method}/"),
                        format!("/{service}//{method}"),
                        format!("//{service}/{method}"),
                        format!("/{}/{method}", service.to_uppercase()),
                    ] {
                        assert_eq!(send(path.clone()).await.code(), Code::Unimplemented, "{path}");
                    }
                }
            }
        }
        assert!(guarded >= 11);
    }

    async fn headers_over_the_limit_are_refused_with_a_status(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let connection = Connection::open(server.address).await;
        for size in [16_384, 20_000, 60_000] {
            let call = Call::new(VALIDATE, [whole(b"")]).header("x-large", &"x".repeat(size));
            let answer = connection.send(call).await.unwrap();
            let failure = failure(&answer.status());
            assert_eq!(failure.reason, "INVALID_FIELD");
            assert_eq!(failure.details.bad_request().unwrap().field_violations[0].reason, "TOO_LONG");
        }
        let call = Call::new(VALIDATE, [whole(b"")]).header("x-large", &"x".repeat(15_000));
        let answer = connection.send(call).await.unwrap();
        assert_eq!(failure(&answer.status()).reason, "TOKEN_MISSING");
    }

    async fn repeated_and_malformed_metadata_is_not_trusted(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let token = server.signed_in("ada@example.org").await.access_token;
        let bearer = format!("Bearer {token}");
        let call = || Call::new(VALIDATE, [whole(b"")]);
        let twice = call().and_header("authorization", bearer.as_bytes()).and_header("authorization", b"Bearer x");
        let answer = twice.send(server.address).await.unwrap();
        assert_eq!(failure(&answer.status()).reason, "TOKEN_INVALID");
        for (name, value) in [
            ("trace-bin", &b"!!! no base64"[..]),
            ("grpc-status-details-bin", b"\xff\xfe"),
            ("grpc-timeout", b"soon"),
            ("x-any", b"\xe9\x80"),
        ] {
            let call = call().and_header("authorization", bearer.as_bytes()).and_header(name, value);
            let answer = call.send(server.address).await.unwrap();
            assert_eq!(answer.status().code(), Code::Ok, "{name}");
        }
        // Of two request ids neither is taken.
        let call = call().and_header("x-request-id", b"one").and_header("x-request-id", b"two");
        let answer = call.send(server.address).await.unwrap();
        let ids: Vec<_> = answer.headers.get_all("x-request-id").iter().collect();
        assert_eq!(ids.len(), 1);
        assert_eq!(ids[0].to_str().unwrap().parse::<uuid::Uuid>().unwrap().get_version_num(), 7);
    }

    async fn http_1_on_the_grpc_port_ends_its_own_connection_only(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        drop(read.expect("the server closes the connection"));
        server.signed_in("ada@example.org").await;
    }

    async fn protocol_errors_of_callers_are_counted_and_logged_as_client_errors(database: TestDatabase) {
        let (server, recording) = TestProcess::start_recorded(&database, &[("COUNTERSIGN_LOG_FORMAT", "json")]).await;
        let (address, http) = (server.address, server.http());
        let login = LoginRequest {
            email: "ada@example.org".to_owned(),
            password: PASSWORD.to_owned(),
            ..LoginRequest::default()
        };
        let login = whole(&login.encode_to_vec());
        let bodies = malformed_bodies();
        for (_, frames) in &bodies {
            for path in [LOGIN, VALIDATE] {
                Call::new(path, frames.clone()).send(address).await.unwrap();
            }
        }
        counted(http, "Login", "InvalidArgument", bodies.len()).await;
        counted(http, "ValidateToken", "InvalidArgument", bodies.len()).await;
        let large = Call::new(LOGIN, [login.clone()]).header("x-large", &"x".repeat(20_000));
        large.send(address).await.unwrap();
        counted(http, "Login", "InvalidArgument", bodies.len() + 1).await;
        Call::new(LOGIN, [whole(&vec![0; 70_000])]).send(address).await.unwrap();
        counted(http, "Login", "OutOfRange", 1).await;

        let half = login.slice(..20);
        // RST_STREAM with each of these codes; `None`: the connection is closed.
        let ends = [
            Some(ResetReason::CANCEL),
            Some(ResetReason::NO_ERROR),
            Some(ResetReason::INTERNAL_ERROR),
            Some(ResetReason::PROTOCOL_ERROR),
            None,
        ];
        let mut cancelled = 0;
        for end in ends {
            for body in [vec![], vec![half.clone()]] {
                cancelled += 1;
                for (path, method) in [(LOGIN, "Login"), (VALIDATE, "ValidateToken")] {
                    let call = Call::new(path, body.clone()).begin(address).await;
                    in_flight(http, method).await;
                    let connection = match end {
                        Some(reason) => Some(call.reset(reason)),
                        None => {
                            call.close();
                            None
                        }
                    };
                    counted(http, method, "Canceled", cancelled).await;
                    drop(connection);
                }
            }
        }
        assert_no_fault(http).await;

        assert_eq!(server.end(Signal::TERM).await, Some(0));
        let (_, log) = recording.finish().await;
        let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let count = |wanted: &[(&str, &str)]| {
            let of = |line: &&Value| wanted.iter().all(|(key, value)| line[*key] == *value);
            lines.iter().filter(of).count()
        };
        let malformed = [("code", "INVALID_ARGUMENT"), ("reason", "INVALID_FIELD"), ("error", "malformed_message")];
        assert_eq!(count(&malformed), 2 * bodies.len());
        assert_eq!(count(&[("reason", "INVALID_FIELD"), ("error", "headers_too_large")]), 1);
        assert_eq!(count(&[("code", "OUT_OF_RANGE"), ("error", "message_too_large")]), 1);
        assert_eq!(count(&[("code", "CANCELLED")]), 2 * cancelled);
        assert_eq!(count(&[("code", "INTERNAL")]) + count(&[("code", "UNKNOWN")]), 0);
        assert_eq!(count(&[("level", "ERROR")]) + count(&[("level", "WARN")]), 0);
    }
}

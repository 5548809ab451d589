//! Traces and metrics over OTLP: the spans and the duration of a login reach a collector, and log lines name the trace.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use countersign::grpc::pb::{
    IssueTokenRequest, LoginRequest, issue_token_request::Credential,
    token_service_client::TokenServiceClient,
};
use http::{HeaderMap, Response};
use rustix::process::Signal;
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::Request;

use crate::support::{PASSWORD, TestDatabase, on_both_databases, process::TestProcess};

/// An OTLP collector that keeps the bytes of all requests. Strings are plain text in protobuf.
struct Collector {
    endpoint: String,
    received: Arc<Mutex<Vec<u8>>>,
    serving: JoinHandle<()>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let received = Arc::default();
        let serving = tokio::spawn(serve(listener, Arc::clone(&received)));
        Self {
            endpoint,
            received,
            serving,
        }
    }

    fn has(&self, text: &str) -> bool {
        let received = self.received.lock().unwrap();
        received
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, received: Arc<Mutex<Vec<u8>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let received = Arc::clone(&received);
        tokio::spawn(async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let received = Arc::clone(&received);
                tokio::spawn(async move {
                    let mut body = request.into_body();
                    while let Some(Ok(part)) = body.data().await {
                        let _ = body.flow_control().release_capacity(part.len());
                        received.lock().unwrap().extend_from_slice(&part);
                    }
                    let head = Response::builder().header("content-type", "application/grpc");
                    let mut stream = respond
                        .send_response(head.body(()).unwrap(), false)
                        .unwrap();
                    // An empty message, and OK.
                    stream
                        .send_data(Bytes::from_static(&[0; 5]), false)
                        .unwrap();
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", "0".parse().unwrap());
                    stream.send_trailers(trailers).unwrap();
                });
            }
        });
    }
}

on_both_databases! {
    async fn a_trace_of_a_login_shows_where_its_time_goes(database: TestDatabase) {
        const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
        const OTHER_TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
        let collector = Collector::start().await;
        let (server, recording) = TestProcess::start_recorded(&database, &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint),
            ("COUNTERSIGN_LOG_FORMAT", "json"),
        ]).await;
        server.signed_in("ada@example.org").await;
        let mut login = Request::new(LoginRequest {
            email: "ada@example.org".to_owned(),
            password: PASSWORD.to_owned(),
            ..LoginRequest::default()
        });
        let parent = format!("00-{TRACE_ID}-b7ad6b7169203331-01");
        login.metadata_mut().insert("traceparent", parent.parse().unwrap());
        server.auth().login(login).await.unwrap();
        let mut refused = Request::new(IssueTokenRequest {
            credential: Some(Credential::ServiceKey("no key".to_owned())),
            ..IssueTokenRequest::default()
        });
        let parent = format!("00-{OTHER_TRACE_ID}-b7ad6b7169203331-01");
        refused.metadata_mut().insert("traceparent", parent.parse().unwrap());
        TokenServiceClient::new(server.channel.clone()).issue_token(refused).await.unwrap_err();
        assert_eq!(server.end(Signal::TERM).await, Some(0));

        let (_, errors) = recording.finish().await;
        let line = errors.lines().find(|line| line.contains(TRACE_ID)).expect("a line names the trace");
        assert!(line.contains("AuthService/Login"), "{line}");
        // A line that is written while the call is under way belongs to its trace as well.
        let line = errors.lines().find(|line| line.contains("client credential refused")).unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["trace_id"], OTHER_TRACE_ID, "{line}");
        for span in [
            "countersign.auth.v1.AuthService/Login", "password hash", "database", "pool wait",
            // Statements, by the semantic conventions.
            "UPDATE users", "INSERT audit_events", "COMMIT", "db.query.text", "db.system.name",
        ] {
            assert!(collector.has(span), "there is no span {span:?}");
        }
        for metric in ["rpc.server.call.duration", "rpc.status_code", "countersign.auth.v1.AuthService/Register"] {
            assert!(collector.has(metric), "there is no {metric:?}");
        }
        assert!(!collector.has("ada@example.org") && !collector.has(PASSWORD));
    }
}

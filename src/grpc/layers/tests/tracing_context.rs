//! Tests that the server span continues the caller's W3C trace, and which calls have one.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use opentelemetry::trace::{SpanKind, TracerProvider as _};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    propagation::TraceContextPropagator,
    trace::{SdkTracerProvider, Span, SpanData, SpanProcessor},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _};

use super::{bad_token, fixture::Fixture, with};
use crate::grpc::pb;

#[derive(Clone, Debug, Default)]
struct CapturedSpans(Arc<Mutex<Vec<SpanData>>>);

impl SpanProcessor for CapturedSpans {
    fn on_start(&self, _: &mut Span, _: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.lock().unwrap().push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl CapturedSpans {
    async fn wait_for(&self, count: usize) -> Vec<SpanData> {
        for _ in 0..200 {
            if self.0.lock().unwrap().len() >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let spans = self.0.lock().unwrap().clone();
        assert_eq!(spans.len(), count);
        spans
    }
}

fn attribute(span: &SpanData, key: &str) -> String {
    let found = span.attributes.iter().find(|kv| kv.key.as_str() == key);
    found.map(|kv| kv.value.to_string()).unwrap_or_default()
}

#[tokio::test]
async fn the_server_span_continues_the_callers_trace_and_health_checks_have_none() {
    let captured = CapturedSpans::default();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(captured.clone())
        .build();
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let subscriber = tracing_subscriber::registry()
        .with(EnvFilter::new("countersign::request=debug"))
        .with(tracing_opentelemetry::layer().with_tracer(provider.tracer("test")));
    let _guard = tracing::subscriber::set_default(subscriber);

    let fixture = Fixture::start().await;
    let mut auth = fixture.auth();
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = with(pb::LoginRequest::default(), "traceparent", parent);
    auth.login(request).await.unwrap();
    let request = with(bad_token(), "traceparent", "garbage");
    auth.validate_token(request).await.unwrap_err();
    let mut health = HealthClient::new(fixture.channel.clone());
    health.check(HealthCheckRequest::default()).await.unwrap();
    let request = with(pb::LoginRequest::default(), "x-request-id", "last");
    auth.login(request).await.unwrap();

    let spans = captured.wait_for(3).await;
    let login = &spans[0];
    assert_eq!(login.span_kind, SpanKind::Server);
    assert_eq!(login.name, "countersign.auth.v1.AuthService/Login");
    assert_eq!(
        login.span_context.trace_id().to_string(),
        "0af7651916cd43dd8448eb211c80319c"
    );
    assert_eq!(login.parent_span_id.to_string(), "b7ad6b7169203331");
    assert_eq!(attribute(login, "rpc.system.name"), "grpc");
    assert_eq!(
        attribute(login, "rpc.method"),
        "countersign.auth.v1.AuthService/Login"
    );
    assert_eq!(attribute(login, "rpc.status_code"), "OK");
    assert_eq!(attribute(login, "request_id").len(), 36);

    let validate = &spans[1];
    assert_eq!(attribute(validate, "rpc.status_code"), "UNAUTHENTICATED");
    assert_eq!(
        validate.parent_span_id,
        opentelemetry::trace::SpanId::INVALID
    );

    // The health check came before this call.
    assert_eq!(attribute(&spans[2], "request_id"), "last");
}

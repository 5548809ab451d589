//! Traces: which spans are exported, where to, and how the last ones are flushed.

use std::time::Duration;

use opentelemetry::{KeyValue, global, trace::TracerProvider as _};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{SdkTracer, SdkTracerProvider},
};
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

use super::TelemetryError;
use crate::config::TelemetrySettings;

/// How long an exit waits for a collector. Together with the wait for the log this is less than the 5 s that the
/// manifests in `deploy/` leave between the end of the drain and SIGKILL.
pub(super) const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// Collects spans and sends them in batches, when a collector is configured.
pub(super) fn provider(
    settings: &TelemetrySettings,
) -> Result<Option<SdkTracerProvider>, TelemetryError> {
    let Some(endpoint) = &settings.otlp_traces_endpoint else {
        return Ok(None);
    };
    tokio::runtime::Handle::try_current().map_err(|_| TelemetryError::NoRuntime)?;
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()?;
    let provider = SdkTracerProvider::builder()
        .with_resource(resource(settings))
        .with_batch_exporter(exporter);
    Ok(Some(provider.build()))
}

/// What the exported telemetry is about: the service's name and version.
pub(super) fn resource(settings: &TelemetrySettings) -> Resource {
    Resource::builder()
        .with_service_name(settings.service_name.clone())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build()
}

/// The tracer under whose name our spans are exported.
pub(super) fn tracer(provider: &SdkTracerProvider) -> SdkTracer {
    provider.tracer("countersign")
}

/// Turns our own spans into traces: the server span of every call and, at DEBUG, the steps in it (hashing,
/// waiting for a connection, SQL statements). Not those of other crates: what the exporter's HTTP/2 stack does would
/// be traced, exported, and traced again. The access line, which repeats the server span, is left out.
pub(super) fn layer<S>(tracer: SdkTracer) -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let ours = Targets::new()
        .with_target("countersign", LevelFilter::DEBUG)
        .with_target("countersign::access", LevelFilter::OFF);
    tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(ours)
}

/// Reads and writes trace contexts as `traceparent` and `tracestate` (W3C Trace Context).
pub(super) fn continue_w3c_contexts() {
    global::set_text_map_propagator(TraceContextPropagator::new());
}

/// Sends what is left, for at most `timeout`. On a blocking thread, because the exporter needs the
/// runtime meanwhile.
pub(super) async fn flush(provider: SdkTracerProvider, timeout: Duration) {
    let flushed =
        tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(timeout)).await;
    match flushed {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the last traces may be lost"),
        Err(error) => tracing::warn!(%error, "the last traces may be lost"),
    }
}

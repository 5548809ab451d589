//! The durations of gRPC calls over OTLP, as the semantic conventions 1.45.0 of OpenTelemetry name them.
//!
//! Recorded only where a collector is configured; the counters of `/metrics` are always kept (`calls.rs`).

use std::{borrow::Cow, sync::OnceLock, thread, time::Duration};

use opentelemetry::{
    KeyValue,
    metrics::{Histogram, MeterProvider as _},
};
use opentelemetry_otlp::{MetricExporter, WithExportConfig as _};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use tokio::{runtime::Handle, sync::oneshot, time::timeout};

use super::{TelemetryError, durations, traces};
use crate::config::TelemetrySettings;

/// How long one export may take, so that the last one ends within [`traces::FLUSH_TIMEOUT`].
const EXPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// Set once, when a collector is configured.
static DURATIONS: OnceLock<Histogram<f64>> = OnceLock::new();

/// Collects durations and sends them every `OTEL_METRIC_EXPORT_INTERVAL`, when a collector is configured.
pub(super) fn provider(
    settings: &TelemetrySettings,
) -> Result<Option<SdkMeterProvider>, TelemetryError> {
    let Some(endpoint) = &settings.otlp_metrics_endpoint else {
        return Ok(None);
    };
    Handle::try_current().map_err(|_| TelemetryError::NoRuntime)?;
    let exporter = MetricExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .build()?;
    let provider = SdkMeterProvider::builder()
        .with_resource(traces::resource(settings))
        .with_periodic_exporter(exporter);
    Ok(Some(provider.build()))
}

/// The histogram of this provider, with the bounds of the histogram of `/metrics`: those of the conventions begin at 5 ms,
/// and a validation takes a hundredth of that.
pub(super) fn histogram(provider: &SdkMeterProvider) -> Histogram<f64> {
    provider
        .meter("countersign")
        .f64_histogram("rpc.server.call.duration")
        .with_unit("s")
        .with_description("Measures the duration of an incoming Remote Procedure Call (RPC).")
        .with_boundaries(durations::BOUNDS.to_vec())
        .build()
}

/// From now on the calls of the whole process are recorded there.
pub(super) fn record_calls_of_the_process(histogram: Histogram<f64>) {
    let _ = DURATIONS.set(histogram);
}

/// Records one call: its method, `package.Service/Method`; its status code as gRPC spells it; whether the server is at fault.
/// Costs nothing without a collector.
pub fn record_call(method: &'static str, code: &'static str, is_error: bool, took: Duration) {
    if let Some(histogram) = DURATIONS.get() {
        record(histogram, method, code, is_error, took);
    }
}

/// Attributes: <https://opentelemetry.io/docs/specs/semconv/rpc/rpc-metrics/>.
pub(super) fn record(
    histogram: &Histogram<f64>,
    method: &'static str,
    code: &'static str,
    is_error: bool,
    took: Duration,
) {
    let text = |value: &'static str| Cow::Borrowed(value);
    let attributes = [
        KeyValue::new("rpc.system.name", text("grpc")),
        KeyValue::new("rpc.method", text(method)),
        KeyValue::new("rpc.status_code", text(code)),
        KeyValue::new("error.type", text(code)),
    ];
    let kept = match is_error {
        true => &attributes[..],
        false => &attributes[..3],
    };
    histogram.record(took.as_secs_f64(), kept);
}

/// Sends what is left, for at most `patience`. On a thread of its own: the provider waits longer than it is told, and an exit
/// waits for the threads of the runtime.
pub(super) async fn flush(provider: SdkMeterProvider, patience: Duration) {
    let (done, flushed) = oneshot::channel();
    let flushing = thread::Builder::new()
        .name("metrics flush".to_owned())
        .spawn(move || {
            let _ = done.send(provider.shutdown());
        });
    if let Err(error) = flushing {
        tracing::warn!(%error, "the last metrics may be lost");
        return;
    }
    match timeout(patience, flushed).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => tracing::warn!(%error, "the last metrics may be lost"),
        Ok(Err(_)) | Err(_) => {
            tracing::warn!("the last metrics may be lost: the collector does not answer in time");
        }
    }
}

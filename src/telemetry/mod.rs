//! Logs on standard error, traces and durations of calls over OTLP where a collector is configured, and call metrics.
//!
//! Logs and traces are two layers with a filter each: `COUNTERSIGN_LOG` decides what is logged and
//! not what is traced. Without a collector there is no trace layer, and a span that is not logged
//! costs next to nothing.

mod call_durations;
mod calls;
mod durations;
mod limit_refusals;
mod log_limit;
mod trace_ids;
mod traces;
mod writer;

#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal as _};

pub use call_durations::record_call;
pub use calls::{CallFamilies, CallMetrics};
pub use durations::Durations;
pub use limit_refusals::LimitRefusal;
pub use log_limit::LogLimit;
use opentelemetry_sdk::{
    metrics::SdkMeterProvider,
    trace::{SdkTracer, SdkTracerProvider},
};
use thiserror::Error;
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt as _, Targets},
    fmt::{self, MakeWriter},
    layer::{Filter, SubscriberExt as _},
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

pub use writer::{dropped_lines, write_last_line};

use trace_ids::WithTraceId;

use crate::config::{LogFormat, TelemetrySettings};

/// Why telemetry cannot be set up.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// Logs are set up once for the whole process; this is not the first time.
    #[error("telemetry is already set up in this process")]
    AlreadySetUp,
    /// The log filter cannot be parsed; [`Config`](crate::config::Config) would have refused it.
    #[error("the log filter is malformed: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Traces and metrics are sent by tasks of the Tokio runtime, and there is none here.
    #[error("traces and metrics need a Tokio runtime")]
    NoRuntime,
    /// The exporter refuses its settings.
    #[error("the OTLP exporter cannot be set up: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Running telemetry. Without [`Telemetry::shutdown`] the last traces, durations and log lines are lost.
#[derive(Debug)]
#[must_use = "the last traces and log lines are lost unless it is shut down"]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    durations: Option<SdkMeterProvider>,
    log: WorkerGuard,
}

/// Sets up logs, traces and metrics for the whole process: call it once, first thing in `main`, and inside
/// the Tokio runtime when anything is exported.
///
/// # Errors
/// See [`TelemetryError`]. A second call in a process changes nothing.
pub fn init(settings: &TelemetrySettings) -> Result<Telemetry, TelemetryError> {
    let provider = traces::provider(settings)?;
    let durations = call_durations::provider(settings)?;
    let tracer = provider.as_ref().map(traces::tracer);
    let (writer, guard) = writer::non_blocking(io::stderr());
    let dropped = writer.error_counter();
    subscriber(settings, tracer, writer)?
        .try_init()
        .map_err(|_| TelemetryError::AlreadySetUp)?;
    if provider.is_some() {
        traces::continue_w3c_contexts();
    }
    if let Some(provider) = &durations {
        call_durations::record_calls_of_the_process(call_durations::histogram(provider));
    }
    writer::count_drops_of_the_process(dropped);
    Ok(Telemetry {
        traces: provider,
        durations,
        log: guard,
    })
}

/// From now on a panic is logged with its source location alone: its message may quote a value, such as
/// a password.
pub fn hide_panic_messages() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let place = panic.location().map(ToString::to_string);
        tracing::error!(thread = thread.name(), place, "panicked");
    }));
}

impl Telemetry {
    /// Sends the last traces and durations and writes the last log lines, for a few seconds at most: neither a collector that does
    /// not answer nor a reader that has stopped keeps the process from exiting.
    pub async fn shutdown(self) {
        let traces = async {
            if let Some(provider) = self.traces {
                traces::flush(provider, traces::FLUSH_TIMEOUT).await;
            }
        };
        let durations = async {
            if let Some(provider) = self.durations {
                call_durations::flush(provider, traces::FLUSH_TIMEOUT).await;
            }
        };
        tokio::join!(traces, durations);
        writer::flush(self.log);
    }
}

/// Both layers over one registry; `writer` receives the log lines.
fn subscriber<W>(
    settings: &TelemetrySettings,
    tracer: Option<SdkTracer>,
    writer: W,
) -> Result<impl Subscriber + Send + Sync, TelemetryError>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let logged = log_filter(&settings.log)?;
    let logs = match settings.format {
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .map_event_format(WithTraceId)
            .with_writer(writer)
            .boxed(),
        LogFormat::Pretty => fmt::layer()
            .with_ansi(io::stderr().is_terminal())
            .with_writer(writer)
            .boxed(),
    };
    Ok(Registry::default()
        .with(logs.with_filter(logged))
        .with(tracer.map(traces::layer)))
}

/// What is logged: `directives`, but nothing below INFO from other crates. They do not know what is
/// secret: at DEBUG `tokio_postgres` prints the parameters of every query, password hashes and e-mail
/// addresses included.
fn log_filter<S>(directives: &str) -> Result<impl Filter<S> + use<S>, TelemetryError>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let requested = EnvFilter::builder().parse(directives)?;
    let harmless = Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("countersign", LevelFilter::TRACE);
    Ok(requested.and(harmless))
}

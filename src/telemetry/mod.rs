//! Logs on standard error; traces over OTLP, where a collector is configured; and what is counted of calls.
//!
//! Logs and traces are two layers, each with its own filter: what is logged obeys `COUNTERSIGN_LOG`;
//! what is traced does not, so that quiet logs leave the traces whole. Without a collector the second
//! layer does not exist, and a span that is not logged costs next to nothing.

mod calls;
mod json;
mod lines;
mod traces;

#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal as _};

pub use calls::{CallCollector, CallMetrics, CallSeries};
use json::JsonLines;
use lines::{Flush, Log};
pub use lines::{dropped_lines, say_last};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use thiserror::Error;
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt as _, Targets},
    fmt::{self, MakeWriter},
    layer::{Filter, SubscriberExt as _},
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use crate::config::{LogFormat, TelemetrySettings};

/// Why there is no telemetry.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// Logs are set up once for the whole process; this is not the first time.
    #[error("telemetry is already set up in this process")]
    AlreadySetUp,
    /// The log filter cannot be parsed; [`Config`](crate::config::Config) would have refused it.
    #[error("the log filter is malformed: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Traces are sent by tasks of the Tokio runtime, and there is none here.
    #[error("traces need a Tokio runtime")]
    NoRuntime,
    /// The exporter does not like its settings.
    #[error("the trace exporter cannot be set up: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Telemetry that runs; give it back with [`Telemetry::shutdown`], or the last traces and log lines are lost.
#[derive(Debug)]
#[must_use = "the last traces and log lines are lost unless it is shut down"]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    lines: Flush,
}

/// Sets up logs and traces for the whole process: call it once, first thing in `main`, and inside
/// the Tokio runtime when traces are exported.
///
/// # Errors
/// See [`TelemetryError`]. Of the second call in a process, nothing remains.
pub fn init(settings: &TelemetrySettings) -> Result<Telemetry, TelemetryError> {
    let provider = traces::provider(settings)?;
    let tracer = provider.as_ref().map(traces::tracer);
    let log = Log::to(io::stderr());
    subscriber(settings, tracer, log.writer.clone())?
        .try_init()
        .map_err(|_| TelemetryError::AlreadySetUp)?;
    if provider.is_some() {
        traces::continue_w3c_contexts();
    }
    Ok(Telemetry {
        traces: provider,
        lines: log.of_the_process(),
    })
}

/// From now on a panic is logged with its place alone: its message may quote what it panicked over,
/// a password for one.
pub fn hide_panic_messages() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let place = panic.location().map(ToString::to_string);
        tracing::error!(thread = thread.name(), place, "panicked");
    }));
}

impl Telemetry {
    /// Sends and writes what has not been yet, for a few seconds at most. A collector that does not
    /// answer costs the last traces and a warning, a reader that has stopped the last lines; neither the exit.
    pub async fn shutdown(self) {
        if let Some(provider) = self.traces {
            traces::flush(provider, traces::FLUSH_TIMEOUT).await;
        }
        self.lines.wait();
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
        LogFormat::Json => JsonLines::to(writer).boxed(),
        LogFormat::Pretty => fmt::layer()
            .with_ansi(io::stderr().is_terminal())
            .with_writer(writer)
            .boxed(),
    };
    Ok(Registry::default()
        .with(logs.with_filter(logged))
        .with(tracer.map(traces::layer)))
}

/// What is logged: `directives`, but of other crates nothing below INFO, whatever is asked for.
/// They do not know what is secret: at DEBUG `tokio_postgres` prints the parameters of every
/// query, password hashes and e-mail addresses included.
fn log_filter<S>(directives: &str) -> Result<impl Filter<S> + use<S>, TelemetryError>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let asked_for = EnvFilter::builder().parse(directives)?;
    let harmless = Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("countersign", LevelFilter::TRACE);
    Ok(asked_for.and(harmless))
}

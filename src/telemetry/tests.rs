//! Which events are logged, which spans are traced, and that a silent collector delays nothing.

use std::{
    future,
    io::Read as _,
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Duration,
};

use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};
use serde_json::Value;

use super::*;
use crate::clock::monotonic_now;

fn settings(log: &str) -> TelemetrySettings {
    TelemetrySettings {
        log: log.to_owned(),
        format: LogFormat::Json,
        otlp_traces_endpoint: None,
        otlp_metrics_endpoint: None,
        service_name: "countersign".to_owned(),
    }
}

/// Receives log lines.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Receives spans, by name.
#[derive(Clone, Debug, Default)]
struct Spans(Arc<Mutex<Vec<String>>>);

impl SpanExporter for Spans {
    fn export(&self, batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        let names = batch.into_iter().map(|span| span.name.into_owned());
        self.0.lock().unwrap().extend(names);
        future::ready(Ok(()))
    }
}

/// The log lines of `work` under `settings`, and its spans if `traced`.
fn observe(
    settings: &TelemetrySettings,
    traced: bool,
    work: impl FnOnce(),
) -> (String, Vec<String>) {
    let (sink, spans) = (Sink::default(), Spans::default());
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(spans.clone())
        .build();
    let tracer = traced.then(|| traces::tracer(&provider));
    let writer = sink.clone();
    let subscriber = subscriber(settings, tracer, move || writer.clone()).unwrap();
    tracing::subscriber::with_default(subscriber, work);
    provider.shutdown().unwrap();
    let lines = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    let spans = spans.0.lock().unwrap().clone();
    (lines, spans)
}

#[test]
fn json_lines_hold_the_event_and_the_fields_of_its_spans() {
    let (lines, _) = observe(&settings("info"), false, || {
        let request =
            tracing::info_span!("request", request_id = "r-1", late = tracing::field::Empty);
        let _request = request.enter();
        let _inner = tracing::info_span!("inner", step = 2).entered();
        request.record("late", 7);
        let error = io::Error::other("gone");
        tracing::warn!(target: "countersign::x", n = 3_u64, ok = true, cause = %error, "it \"broke\"\nbadly");
    });
    assert_eq!(lines.lines().count(), 1, "{lines}");
    let mut line: Value = serde_json::from_str(&lines).unwrap();
    assert!(line["timestamp"].take().as_str().unwrap().ends_with('Z'));
    let expected = serde_json::json!({
        "timestamp": null, "level": "WARN", "target": "countersign::x", "message": "it \"broke\"\nbadly",
        "n": 3, "ok": true, "cause": "gone",
        "spans": [{"name": "request", "request_id": "r-1", "late": 7}, {"name": "inner", "step": 2}],
    });
    assert_eq!(line, expected);
}

#[test]
fn json_lines_within_a_trace_have_its_id_once_and_others_have_none() {
    let work = || {
        tracing::info!(target: "countersign::x", "before");
        tracing::debug_span!(target: "countersign::request", "request").in_scope(|| {
            tracing::info!(target: "countersign::x", "first");
            tracing::info_span!(target: "countersign::x", "step").in_scope(|| {
                tracing::warn!(target: "countersign::x", n = 1, "second");
            });
            tracing::info!(target: "countersign::access", trace_id = "its own", "call");
        });
    };
    let ids = |traced| -> Vec<_> {
        let (lines, _) = observe(&settings("info"), traced, work);
        let lines = lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .map(|line| line["trace_id"].as_str().map(str::to_owned))
            .collect()
    };
    let [before, first, second, access] = &ids(true)[..] else {
        panic!("four lines were written");
    };
    assert_eq!(*before, None);
    assert_eq!(first.as_ref().map(String::len), Some(32));
    assert_eq!(first, second);
    assert_eq!(access.as_deref(), Some("its own"));
    assert_eq!(ids(false)[..3], [None, None, None]);
}

#[test]
fn pretty_lines_are_single_lines() {
    let settings = TelemetrySettings {
        format: LogFormat::Pretty,
        ..settings("info")
    };
    let (lines, _) = observe(&settings, false, || tracing::info!(n = 1, "hello"));
    assert_eq!(lines.lines().count(), 1, "{lines}");
    assert!(lines.contains("hello") && lines.contains("INFO"), "{lines}");
}

#[test]
fn other_crates_log_nothing_below_info_whatever_the_filter() {
    let (lines, _) = observe(&settings("trace,tokio_postgres=trace"), false, || {
        tracing::debug!(target: "tokio_postgres::query", "with parameters hunter2");
        tracing::trace!(target: "h2::hpack", "hunter2");
        tracing::info!(target: "tokio_postgres::connection", "a notice");
        tracing::trace!(target: "countersign::auth", "a step");
    });
    assert!(!lines.contains("hunter2"), "{lines}");
    assert!(
        lines.contains("a notice") && lines.contains("a step"),
        "{lines}"
    );
}

#[test]
fn own_spans_are_traced_even_if_nothing_is_logged() {
    let (lines, spans) = observe(&settings("off"), true, || {
        tracing::debug_span!(target: "countersign::request", "request", otel.name = "ValidateToken").in_scope(|| {
            tracing::info!(target: "countersign::access", "one line");
        });
        tracing::info_span!(target: "countersign::auth", "auth").in_scope(|| ());
        tracing::debug_span!(target: "countersign::auth", "detail").in_scope(|| ());
        tracing::info_span!(target: "h2", "frame").in_scope(|| ());
    });
    assert_eq!(lines, "");
    assert_eq!(spans, ["ValidateToken", "auth", "detail"]);
}

#[test]
fn a_span_that_is_neither_logged_nor_traced_is_disabled() {
    let (_, spans) = observe(&settings("info"), false, || {
        let quiet = tracing::debug_span!(target: "countersign::request", "request");
        assert!(quiet.is_disabled());
        let logged = tracing::info_span!(target: "countersign::request", "request");
        assert!(!logged.is_disabled());
    });
    assert!(spans.is_empty());
}

#[test]
fn exporting_without_a_runtime_is_an_error() {
    let exporting = TelemetrySettings {
        otlp_traces_endpoint: Some("http://127.0.0.1:1".to_owned()),
        ..settings("info")
    };
    assert!(matches!(init(&exporting), Err(TelemetryError::NoRuntime)));
}

#[tokio::test]
async fn a_second_initialisation_is_refused() {
    let first = init(&settings("off"));
    let second = init(&settings("off"));
    assert!(matches!(second, Err(TelemetryError::AlreadySetUp)));
    if let Ok(first) = first {
        first.shutdown().await;
    }
}

#[tokio::test]
async fn spans_reach_the_collector_and_a_silent_one_delays_no_exit() {
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let exporting = TelemetrySettings {
        otlp_traces_endpoint: Some(format!("http://{}", collector.local_addr().unwrap())),
        ..settings("info")
    };
    let provider = traces::provider(&exporting).unwrap().unwrap();
    let tracer = Some(traces::tracer(&provider));
    let subscriber = subscriber(&exporting, tracer, io::sink).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        tracing::info_span!(target: "countersign::request", "request").in_scope(|| ());
    });

    let started = monotonic_now();
    let flushing = tokio::spawn(traces::flush(provider, Duration::from_millis(500)));
    // The exporter opens HTTP/2 and gets no answer.
    let preface = tokio::task::spawn_blocking(move || {
        let (mut connection, _) = collector.accept().unwrap();
        let mut preface = [0; 14];
        connection.read_exact(&mut preface).unwrap();
        (connection, preface)
    });
    let (_open, preface) = preface.await.unwrap();
    assert_eq!(&preface, b"PRI * HTTP/2.0");
    flushing.await.unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
}

//! Metrics of gRPC calls: counters for each method, and their encoding for Prometheus.
//!
//! Counting is a few relaxed atomic additions to static memory. `prometheus_client`'s own histogram takes a lock for
//! every observation and its families look up a label set, so only its encoder is used here.
//!
//! The names are those of go-grpc-prometheus, which the gRPC middlewares of Go, Java and Python share:
//! dashboards and alerts for them exist. Over OTLP the durations have OpenTelemetry's name (`call_durations.rs`).

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, NoLabelSet},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

/// The status codes of gRPC by number, with the names of go-grpc-prometheus.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Upper bounds of the histogram's buckets, in nanoseconds: from a cached validation (10 µs) over a password
/// hash (20 ms) to the longest time-outs.
const BOUNDS: [u64; 20] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
];

const NANOS_PER_SECOND: f64 = 1e9;

/// The counters of one method, aligned to cache lines so that methods do not slow each other down.
#[derive(Debug)]
#[repr(align(64))]
pub struct CallMetrics {
    started: AtomicU64,
    handled: [AtomicU64; CODES.len()],
    /// How many calls took no longer than each bound and longer than the one before; the last has no bound.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl CallMetrics {
    /// All counters at zero.
    pub const fn new() -> Self {
        Self {
            started: AtomicU64::new(0),
            handled: [const { AtomicU64::new(0) }; CODES.len()],
            buckets: [const { AtomicU64::new(0) }; BOUNDS.len() + 1],
            nanos: AtomicU64::new(0),
        }
    }

    /// A call begins. [`CallMetrics::handled`] must follow, once.
    pub fn started(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    /// A call has ended with the status code of that number.
    pub fn handled(&self, code: usize, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < nanos);
        self.handled[code.min(CODES.len() - 1)].fetch_add(1, Ordering::Relaxed);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    fn in_flight(&self) -> u64 {
        // Ends are read before beginnings: a call that ends meanwhile cannot make it negative.
        let ended: u64 = self.handled.iter().map(read).sum();
        read(&self.started).saturating_sub(ended)
    }

    fn histogram(&self) -> Histogram {
        let bounds = bounds().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(self.buckets.iter().map(read)).collect();
        Histogram {
            sum: seconds(read(&self.nanos)),
            count: buckets.iter().map(|(_, count)| count).sum(),
            buckets,
        }
    }
}

impl Default for CallMetrics {
    fn default() -> Self {
        Self::new()
    }
}

struct Histogram {
    sum: f64,
    count: u64,
    buckets: Vec<(f64, u64)>,
}

/// One method's counters and the labels they go by.
#[derive(Clone, Copy, Debug)]
pub struct CallSeries {
    /// `unary`, `client_stream`, `server_stream` or `bidi_stream`.
    pub grpc_type: &'static str,
    /// `package.Service`.
    pub service: &'static str,
    /// The method's name.
    pub method: &'static str,
    /// What was counted.
    pub metrics: &'static CallMetrics,
}

impl CallSeries {
    fn labels(&self) -> [(&'static str, &'static str); 3] {
        [
            ("grpc_type", self.grpc_type),
            ("grpc_service", self.service),
            ("grpc_method", self.method),
        ]
    }
}

/// Encodes the counters of all methods. Every series exists from the start, at zero: Prometheus sees no increase in
/// a series that begins with its first event, so an alert would miss that event.
#[derive(Debug)]
pub struct CallCollector(
    /// The methods.
    pub Vec<CallSeries>,
);

impl Collector for CallCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        self.started(&mut encoder)?;
        self.handled(&mut encoder)?;
        self.handling_seconds(&mut encoder)?;
        self.in_flight(&mut encoder)
    }
}

impl CallCollector {
    fn started(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let (name, help) = ("grpc_server_started", "Calls begun.");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for series in &self.0 {
            let count = ConstCounter::new(read(&series.metrics.started));
            count.encode(family.encode_family(&series.labels())?)?;
        }
        Ok(())
    }

    fn handled(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let (name, help) = ("grpc_server_handled", "Calls ended, by status code.");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for series in &self.0 {
            for (code, count) in CODES.iter().zip(&series.metrics.handled) {
                let [grpc_type, service, method] = series.labels();
                let labels = [grpc_type, service, method, ("grpc_code", code)];
                ConstCounter::new(read(count)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn handling_seconds(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let (name, help) = ("grpc_server_handling", "How long calls took.");
        let unit = Some(&Unit::Seconds);
        let mut family = encoder.encode_descriptor(name, help, unit, MetricType::Histogram)?;
        for series in &self.0 {
            let Histogram {
                sum,
                count,
                buckets,
            } = series.metrics.histogram();
            family
                .encode_family(&series.labels())?
                .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }

    fn in_flight(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let (name, help) = ("grpc_server_in_flight", "Calls begun and not ended.");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for series in &self.0 {
            let count = ConstGauge::new(series.metrics.in_flight());
            count.encode(family.encode_family(&series.labels())?)?;
        }
        Ok(())
    }
}

/// Upper bounds of the histogram's buckets, in seconds.
pub(super) fn bounds() -> impl Iterator<Item = f64> {
    BOUNDS.iter().map(|nanos| seconds(*nanos))
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Nanoseconds to seconds, the unit of Prometheus.
#[allow(
    clippy::cast_precision_loss,
    reason = "2^53 nanoseconds are 104 days, and beyond them a nanosecond does not matter"
)]
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / NANOS_PER_SECOND
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text, registry::Registry};

    use super::*;

    fn encoded(metrics: &'static CallMetrics) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(CallCollector(vec![CallSeries {
            grpc_type: "unary",
            service: "a.B",
            method: "C",
            metrics,
        }])));
        let mut text = String::new();
        text::encode(&mut text, &registry).unwrap();
        text
    }

    fn has(text: &str, line: &str) {
        assert!(
            text.lines().any(|encoded| encoded == line),
            "{line} in\n{text}"
        );
    }

    #[test]
    fn counters_are_encoded_with_their_labels() {
        static METRICS: CallMetrics = CallMetrics::new();
        for _ in 0..4 {
            METRICS.started();
        }
        METRICS.handled(0, Duration::from_micros(10));
        METRICS.handled(0, Duration::from_nanos(10_001));
        METRICS.handled(16, Duration::from_secs(60));
        let text = encoded(&METRICS);
        let labels = r#"grpc_type="unary",grpc_service="a.B",grpc_method="C""#;
        has(&text, &format!("grpc_server_started_total{{{labels}}} 4"));
        has(&text, &format!("grpc_server_in_flight{{{labels}}} 1"));
        for (code, count) in [("OK", 2), ("Unauthenticated", 1), ("Internal", 0)] {
            let series =
                format!(r#"grpc_server_handled_total{{{labels},grpc_code="{code}"}} {count}"#);
            has(&text, &series);
        }
        for (bound, count) in [("0.00001", 1), ("0.000025", 2), ("30.0", 2), ("+Inf", 3)] {
            let name = "grpc_server_handling_seconds_bucket";
            has(
                &text,
                &format!(r#"{name}{{le="{bound}",{labels}}} {count}"#),
            );
        }
        has(
            &text,
            &format!("grpc_server_handling_seconds_count{{{labels}}} 3"),
        );
        has(
            &text,
            &format!("grpc_server_handling_seconds_sum{{{labels}}} 60.000020001"),
        );
    }

    #[test]
    fn an_unknown_status_code_is_counted() {
        static METRICS: CallMetrics = CallMetrics::new();
        METRICS.started();
        METRICS.handled(99, Duration::MAX);
        assert_eq!(METRICS.in_flight(), 0);
    }
}

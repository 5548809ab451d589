//! Metrics of gRPC calls: counters and a histogram for each method.
//!
//! The names are those of go-grpc-prometheus, which the gRPC middlewares of Go, Java and Python share:
//! dashboards and alerts for them exist. Over OTLP the durations have OpenTelemetry's name (`call_durations.rs`).

use std::time::Duration;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::durations::BOUNDS;

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

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// The metrics of all methods.
#[derive(Clone, Debug)]
pub struct CallFamilies {
    started: Family<Labels<3>, Counter>,
    handled: Family<Labels<4>, Counter>,
    in_flight: Family<Labels<3>, Gauge>,
    seconds: Family<Labels<3>, Histogram, fn() -> Histogram>,
}

/// The metrics of one method. They are found once, so that counting needs no lookup.
#[derive(Debug)]
pub struct CallMetrics {
    started: Counter,
    handled: [Counter; CODES.len()],
    in_flight: Gauge,
    seconds: Histogram,
}

impl CallFamilies {
    /// Of no method.
    pub fn new() -> Self {
        Self {
            started: Family::default(),
            handled: Family::default(),
            in_flight: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BOUNDS)),
        }
    }

    /// Adds the metrics of a method. `grpc_type` is `unary`, `client_stream`, `server_stream` or `bidi_stream`; `service` is
    /// `package.Service`.
    ///
    /// Every series exists from now on, at zero: Prometheus sees no increase in a series that begins with its first event,
    /// so an alert would miss that event.
    pub fn add(
        &self,
        grpc_type: &'static str,
        service: &'static str,
        method: &'static str,
    ) -> CallMetrics {
        let labels = [
            ("grpc_type", grpc_type),
            ("grpc_service", service),
            ("grpc_method", method),
        ];
        let [first, second, third] = labels;
        CallMetrics {
            started: self.started.get_or_create(&labels).clone(),
            handled: CODES.map(|code| {
                let labels = [first, second, third, ("grpc_code", code)];
                self.handled.get_or_create(&labels).clone()
            }),
            in_flight: self.in_flight.get_or_create(&labels).clone(),
            seconds: self.seconds.get_or_create(&labels).clone(),
        }
    }

    /// Adds all metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let Self {
            started,
            handled,
            in_flight,
            seconds,
        } = self.clone();
        registry.register("grpc_server_started", "Calls begun", started);
        registry.register(
            "grpc_server_handled",
            "Calls ended, by status code",
            handled,
        );
        registry.register_with_unit(
            "grpc_server_handling",
            "How long calls took",
            Unit::Seconds,
            seconds,
        );
        registry.register(
            "grpc_server_in_flight",
            "Calls begun and not ended",
            in_flight,
        );
    }
}

impl Default for CallFamilies {
    fn default() -> Self {
        Self::new()
    }
}

impl CallMetrics {
    /// A call begins. [`CallMetrics::handled`] must follow, once.
    pub fn started(&self) {
        self.started.inc();
        self.in_flight.inc();
    }

    /// A call has ended with the status code of that number.
    pub fn handled(&self, code: usize, took: Duration) {
        self.handled[code.min(CODES.len() - 1)].inc();
        self.seconds.observe(took.as_secs_f64());
        self.in_flight.dec();
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;

    use super::*;

    fn encoded(families: &CallFamilies) -> String {
        let mut registry = Registry::default();
        families.register(&mut registry);
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
        let families = CallFamilies::new();
        let metrics = families.add("unary", "a.B", "C");
        for _ in 0..4 {
            metrics.started();
        }
        metrics.handled(0, Duration::from_micros(10));
        metrics.handled(0, Duration::from_nanos(10_001));
        metrics.handled(16, Duration::from_secs(60));
        let text = encoded(&families);
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
        let families = CallFamilies::new();
        let metrics = families.add("unary", "a.B", "C");
        metrics.started();
        metrics.handled(99, Duration::MAX);
        let labels = r#"grpc_type="unary",grpc_service="a.B",grpc_method="C""#;
        let text = encoded(&families);
        has(&text, &format!("grpc_server_in_flight{{{labels}}} 0"));
        let last =
            format!(r#"grpc_server_handled_total{{{labels},grpc_code="Unauthenticated"}} 1"#);
        has(&text, &last);
    }
}

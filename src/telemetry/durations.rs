//! Histograms of durations for `/metrics`.

use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;

/// Upper bounds of the buckets, in seconds: from a cached validation (10 us) over a password hash (20 ms) to the longest
/// time-outs.
pub(super) const BOUNDS: [f64; 20] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025,
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Durations, counted. Copies count together.
#[derive(Clone, Debug)]
pub struct Durations(Histogram);

impl Durations {
    /// None yet.
    pub fn new() -> Self {
        Self(Histogram::new(BOUNDS))
    }

    /// Counts one.
    pub fn observe(&self, took: Duration) {
        self.0.observe(took.as_secs_f64());
    }

    /// What was counted, in seconds.
    pub const fn histogram(&self) -> &Histogram {
        &self.0
    }
}

impl Default for Durations {
    fn default() -> Self {
        Self::new()
    }
}

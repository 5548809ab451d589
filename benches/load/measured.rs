//! One line of the report.

use serde::Serialize;

/// One comparison, or one number.
#[derive(Serialize)]
pub struct Line {
    /// The scenario that it belongs to.
    pub group: String,
    /// What was measured, with its unit.
    pub name: String,
    /// The service's number.
    pub ours: f64,
    /// What it is compared with, and the number.
    pub other: Option<(&'static str, f64)>,
    /// Ours to the other.
    pub ratio: Option<f64>,
    /// The goal for the ratio, or for our number where there is no other.
    pub bound: Option<Bound>,
    /// Whether the goal is met.
    pub met: Option<bool>,
}

/// A goal.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// At least so much.
    AtLeast(f64),
    /// At most so much.
    AtMost(f64),
}

impl Bound {
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }

    pub fn text(self) -> String {
        match self {
            Self::AtLeast(bound) => format!(">= {bound}"),
            Self::AtMost(bound) => format!("<= {bound}"),
        }
    }
}

/// Three digits are as many as mean something.
pub fn figure(value: f64) -> String {
    match value.abs() {
        1_000.0.. => format!("{value:.0}"),
        100.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

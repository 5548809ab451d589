//! What goes wrong in a measurement.

/// An error of any kind ends the scenario.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

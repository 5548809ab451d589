//! Bounds how often a condition is logged that callers can cause at will.

use std::time::{Duration, Instant};

use crate::clock::monotonic_now;

/// A condition is logged at most this often.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Permits a log line every ten seconds; the first one is permitted.
#[derive(Debug, Default)]
pub struct LogLimit {
    last: Option<Instant>,
}

impl LogLimit {
    /// Whether a line may be written now; if so, it counts as written.
    pub fn permits(&mut self) -> bool {
        let now = monotonic_now();
        let is_due = self
            .last
            .is_none_or(|last| now.saturating_duration_since(last) >= LOG_INTERVAL);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_lasts_is_logged_once() {
        let mut limit = LogLimit::default();
        assert!(limit.permits());
        assert!((0..1_000).all(|_| !limit.permits()));
    }
}

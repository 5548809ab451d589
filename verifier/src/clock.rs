//! Time, in one place: everything else gets it as a parameter.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UnixMillis(pub(crate) i64);

impl UnixMillis {
    /// From the whole seconds of a claim. What no `i64` holds becomes the nearest that it does.
    pub(crate) const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000))
    }

    /// From a protobuf time, cut to milliseconds; `None` when it is out of range.
    pub(crate) fn from_proto(time: prost_types::Timestamp) -> Option<Self> {
        let nanos = (0..1_000_000_000)
            .contains(&time.nanos)
            .then_some(time.nanos)?;
        let millis = time.seconds.checked_mul(1_000)?;
        millis.checked_add(i64::from(nanos / 1_000_000)).map(Self)
    }

    pub(crate) fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    pub(crate) const fn floor_to_second(self) -> Self {
        Self(self.0.div_euclid(1_000) * 1_000)
    }

    /// How long after `earlier` this is; zero when it is not later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        let millis = self.0.saturating_sub(earlier.0);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }

    pub(crate) fn to_system_time(self) -> SystemTime {
        let offset = Duration::from_millis(self.0.unsigned_abs());
        let time = if self.0 < 0 {
            UNIX_EPOCH.checked_sub(offset)
        } else {
            UNIX_EPOCH.checked_add(offset)
        };
        time.unwrap_or(UNIX_EPOCH)
    }
}

impl From<SystemTime> for UnixMillis {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(millis(after)),
            Err(before) => Self(-millis(before.duration())),
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// What a verifier reads the time from.
#[derive(Clone, Debug, Default)]
pub(crate) enum Clock {
    /// The machine's clocks.
    #[default]
    System,
    /// The same, ahead by what a test says.
    Manual(ManualClock),
}

impl Clock {
    /// The time of day.
    #[expect(clippy::disallowed_methods, reason = "this file is the clock")]
    pub(crate) fn now(&self) -> SystemTime {
        SystemTime::now() + self.ahead()
    }

    /// A clock that is never set.
    #[expect(clippy::disallowed_methods, reason = "this file is the clock")]
    pub(crate) fn monotonic(&self) -> Instant {
        Instant::now() + self.ahead()
    }

    fn ahead(&self) -> Duration {
        match self {
            Self::System => Duration::ZERO,
            Self::Manual(clock) => Duration::from_millis(clock.ahead.load(Ordering::SeqCst)),
        }
    }
}

/// A clock that the tests of this crate move forward. No part of its interface. Waits for the network, and between two connections, take
/// the time that they take.
#[derive(Clone, Debug, Default)]
pub struct ManualClock {
    /// In milliseconds.
    ahead: Arc<AtomicU64>,
}

impl ManualClock {
    /// Lets time pass at once.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(millis(by)).unwrap_or(0);
        self.ahead.fetch_add(by, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_out_of_range_become_none_or_the_nearest() {
        let proto = |seconds, nanos| {
            UnixMillis::from_proto(prost_types::Timestamp { seconds, nanos }).map(|time| time.0)
        };
        assert_eq!(proto(1, 2_999_999), Some(1_002));
        assert_eq!(proto(-1, 0), Some(-1_000));
        for (seconds, nanos) in [(i64::MAX, 0), (i64::MIN, 0), (0, -1), (0, 1_000_000_000)] {
            assert_eq!(proto(seconds, nanos), None, "{seconds} {nanos}");
        }
        for extreme in [UnixMillis(i64::MIN), UnixMillis(i64::MAX)] {
            let _ = extreme.to_system_time();
            let _ = extreme.plus(Duration::MAX);
        }
        let time = UnixMillis(1_800_000_000_123);
        assert_eq!(UnixMillis::from(time.to_system_time()), time);
    }
}

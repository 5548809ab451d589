//! The only place that reads a clock. Everything else gets a [`Clock`] as a parameter, so that tests control the time.

use std::{
    fmt,
    ops::{Add, Sub},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// A point in time: microseconds since the Unix epoch, as in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From seconds since the Unix epoch (JWT `NumericDate`, RFC 7519 section 2).
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Microseconds since the Unix epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole milliseconds since the Unix epoch, rounded down.
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// The same time, rounded down to the second.
    pub const fn floor_to_second(self) -> Self {
        Self::from_seconds(self.seconds())
    }

    /// RFC 3339 in UTC, to the microsecond.
    pub fn to_rfc3339_micros(self) -> String {
        let since_epoch = self.since(Self::default());
        humantime::format_rfc3339_micros(UNIX_EPOCH + since_epoch).to_string()
    }

    /// The time since `earlier`; zero if that is in the future.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0).try_into().unwrap_or(0))
    }
}

/// RFC 3339, in whole seconds.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since_epoch = self.floor_to_second().since(Self::default());
        humantime::format_rfc3339_seconds(UNIX_EPOCH + since_epoch).fmt(f)
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(micros(duration)))
    }
}

/// Where the time of day comes from.
#[derive(Clone)]
pub enum Clock {
    /// The machine's clock.
    System,
    /// The machine's clock, were it ahead by so much: a wrong clock, for tests.
    SystemAhead(Duration),
    /// A clock that a test moves.
    Manual(ManualClock),
}

impl Clock {
    /// The time of day.
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place where the system clock is read"
    )]
    pub fn now(&self) -> Timestamp {
        let system = || {
            let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
            Timestamp(micros(since_epoch.unwrap_or_default()))
        };
        match self {
            Self::System => system(),
            Self::SystemAhead(ahead) => system() + *ahead,
            Self::Manual(clock) => clock.now(),
        }
    }

    /// Time since an arbitrary start. It never goes back and cannot be set, so ages are measured with it; the time
    /// of day may jump.
    pub fn monotonic(&self) -> Duration {
        match self {
            Self::System | Self::SystemAhead(_) => since_boot(),
            Self::Manual(clock) => clock.monotonic(),
        }
    }

    /// Whether it runs with the machine's; one that a test moves does not.
    pub const fn is_of_machine(&self) -> bool {
        match self {
            Self::System | Self::SystemAhead(_) => true,
            Self::Manual(_) => false,
        }
    }
}

/// Includes the time for which the machine was suspended, where the system counts it: a replica that resumes must
/// know how old its data is. `Instant` does not count that time.
fn since_boot() -> Duration {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;
    rustix::time::clock_gettime(CLOCK)
        .try_into()
        .unwrap_or_default()
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "Clock::System",
            Self::SystemAhead(_) => "Clock::SystemAhead",
            Self::Manual(_) => "Clock::Manual",
        })
    }
}

/// A clock that changes only when a test moves it.
#[derive(Clone)]
pub struct ManualClock(Arc<ManualTime>);

struct ManualTime {
    time_of_day: AtomicI64,
    monotonic_micros: AtomicU64,
}

impl ManualClock {
    /// A clock whose time of day is `start`.
    pub fn new(start: Timestamp) -> Self {
        Self(Arc::new(ManualTime {
            time_of_day: AtomicI64::new(start.micros()),
            monotonic_micros: AtomicU64::new(0),
        }))
    }

    /// Its time of day.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.0.time_of_day.load(Ordering::SeqCst))
    }

    /// The sum of all its advances.
    pub fn monotonic(&self) -> Duration {
        Duration::from_micros(self.0.monotonic_micros.load(Ordering::SeqCst))
    }

    /// Moves it forward: time passes.
    pub fn advance(&self, duration: Duration) {
        let step = micros(duration);
        self.0
            .monotonic_micros
            .fetch_add(step.unsigned_abs(), Ordering::SeqCst);
        self.0.time_of_day.fetch_add(step, Ordering::SeqCst);
    }

    /// Sets the time of day, also back. The monotonic time stays.
    pub fn set(&self, time: Timestamp) {
        self.0.time_of_day.store(time.micros(), Ordering::SeqCst);
    }
}

/// A point on the machine's monotonic clock, for deadlines and durations; never for the time of day.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place where the monotonic clock is read"
)]
pub fn monotonic_now() -> Instant {
    Instant::now()
}

/// The CPU time that the threads of this process have used since its start.
pub fn cpu_time() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    used.try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_down_on_both_sides_of_the_epoch() {
        assert_eq!(Timestamp::from_micros(1_999_999).seconds(), 1);
        assert_eq!(Timestamp::from_micros(-1).seconds(), -1);
        assert_eq!(
            Timestamp::from_micros(1_999_999).floor_to_second(),
            Timestamp::from_seconds(1)
        );
    }

    #[test]
    fn displays_as_rfc_3339() {
        let moment = Timestamp::from_micros(1_795_478_400_999_999);
        assert_eq!(moment.to_string(), "2026-11-24T00:00:00Z");
    }

    #[test]
    fn a_manual_clock_changes_only_when_it_is_moved() {
        let manual = ManualClock::new(Timestamp::from_seconds(100));
        let clock = Clock::Manual(manual.clone());
        assert_eq!(clock.now(), Timestamp::from_seconds(100));
        manual.advance(Duration::from_secs(5));
        assert_eq!(
            clock.now().since(Timestamp::from_seconds(100)),
            Duration::from_secs(5)
        );
        assert_eq!(
            Timestamp::from_seconds(1).since(Timestamp::from_seconds(2)),
            Duration::ZERO
        );
    }

    #[test]
    fn setting_the_time_of_day_does_not_change_the_monotonic_time() {
        let manual = ManualClock::new(Timestamp::from_seconds(100));
        let clock = Clock::Manual(manual.clone());
        manual.advance(Duration::from_secs(5));
        manual.set(Timestamp::from_seconds(1));
        assert_eq!(clock.now(), Timestamp::from_seconds(1));
        assert_eq!(clock.monotonic(), Duration::from_secs(5));
    }

    #[test]
    fn the_monotonic_time_of_the_system_does_not_go_back() {
        let earlier = Clock::System.monotonic();
        assert!(earlier > Duration::ZERO);
        assert!(Clock::System.monotonic() >= earlier);
    }
}

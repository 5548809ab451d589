//! The only place that reads a clock: everything else is handed one, so that tests move time themselves.

use std::{
    fmt,
    ops::{Add, Sub},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// A moment: microseconds since the Unix epoch, the form in which the database keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment that many microseconds after the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// The moment that many seconds after the Unix epoch (JWT `NumericDate`, RFC 7519 section 2).
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

    /// The same moment without its fraction of a second.
    pub const fn floor_to_second(self) -> Self {
        Self::from_seconds(self.seconds())
    }

    /// How long ago `earlier` was; zero when it lies ahead.
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
    /// A clock that a test moves by hand.
    Manual(ManualClock),
}

impl Clock {
    /// The moment it is now.
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place where the system clock is read"
    )]
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => {
                let since_epoch = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                Timestamp(micros(since_epoch))
            }
            Self::Manual(clock) => clock.now(),
        }
    }

    /// How long this clock has run, from a start of no meaning. It never goes back and cannot be set, so
    /// it is what ages are measured with; the time of day may jump at any moment.
    pub fn monotonic(&self) -> Duration {
        match self {
            Self::System => since_boot(),
            Self::Manual(clock) => clock.monotonic(),
        }
    }
}

/// Counts the time that the machine slept, too, where the system can: a replica that wakes up must know
/// how old its knowledge has become. `Instant` stands still meanwhile.
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
            Self::Manual(_) => "Clock::Manual",
        })
    }
}

/// A clock that stands still until it is moved.
#[derive(Clone)]
pub struct ManualClock(Arc<Hands>);

struct Hands {
    time_of_day: AtomicI64,
    monotonic_micros: AtomicU64,
}

impl ManualClock {
    /// A clock that stands at `start`.
    pub fn new(start: Timestamp) -> Self {
        Self(Arc::new(Hands {
            time_of_day: AtomicI64::new(start.micros()),
            monotonic_micros: AtomicU64::new(0),
        }))
    }

    /// The moment at which it stands.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.0.time_of_day.load(Ordering::SeqCst))
    }

    /// How far it was moved forward in all.
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

    /// Puts it at `moment`, which may lie in the past: somebody sets the clock, and no time passes.
    pub fn set(&self, moment: Timestamp) {
        self.0.time_of_day.store(moment.micros(), Ordering::SeqCst);
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
    fn shows_itself_as_rfc_3339() {
        let moment = Timestamp::from_micros(1_795_478_400_999_999);
        assert_eq!(moment.to_string(), "2026-11-24T00:00:00Z");
    }

    #[test]
    fn a_manual_clock_moves_only_by_hand() {
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
    fn setting_the_time_of_day_lets_no_time_pass() {
        let manual = ManualClock::new(Timestamp::from_seconds(100));
        let clock = Clock::Manual(manual.clone());
        manual.advance(Duration::from_secs(5));
        manual.set(Timestamp::from_seconds(1));
        assert_eq!(clock.now(), Timestamp::from_seconds(1));
        assert_eq!(clock.monotonic(), Duration::from_secs(5));
    }

    #[test]
    fn the_machine_s_monotonic_clock_runs() {
        let earlier = Clock::System.monotonic();
        assert!(earlier > Duration::ZERO);
        assert!(Clock::System.monotonic() >= earlier);
    }
}

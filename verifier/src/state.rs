//! The state of a verifier: how current its revocations are, and its connection. The task of the feed updates it.

use std::{
    sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime},
};

use crate::{
    clock::{Clock, UnixMillis},
    cursor::Cursor,
};

/// By how much the clocks of server and verifier may differ without making knowledge look older than it is.
const CLOCKS_DIFFER: Duration = Duration::from_secs(10);

/// The state of a verifier's feed.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct VerifierState {
    /// Whether it is connected.
    pub status: FeedStatus,
    /// Whether a complete snapshot has been received at some time. Before, no token is accepted.
    pub is_ready: bool,
    /// All revocations that were committed before this time are known. By the server's clock.
    pub as_of: Option<SystemTime>,
    /// The cursor of the newest heartbeat.
    pub cursor: Option<Cursor>,
    /// How many snapshots have been completed, resumed ones included.
    pub connections: u64,
    /// How many messages, or revocations in them, were ignored because they were malformed.
    pub malformed: u64,
}

/// Whether the feed is connected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FeedStatus {
    /// Not yet, or not again.
    #[default]
    Connecting,
    /// Keys and revocations arrive as they change.
    Current,
    /// The server could not be reached, or the stream broke; it is tried again.
    Interrupted {
        /// What happened.
        cause: String,
    },
    /// The server, or the source of the credential, refused. It is retried, but rarely.
    CredentialRefused {
        /// The error.
        cause: String,
    },
}

/// The part of the state that every verification may need, without a lock.
pub(crate) struct Progress {
    is_ready: AtomicBool,
    is_current: AtomicBool,
    are_keys_current: AtomicBool,
    /// In milliseconds of the server's clock; 0 when nothing is known.
    as_of: AtomicI64,
    /// When `as_of` last advanced, in milliseconds since `began`.
    advanced: AtomicU64,
    began: Instant,
    clock: Clock,
}

impl Progress {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            is_ready: AtomicBool::new(false),
            is_current: AtomicBool::new(false),
            are_keys_current: AtomicBool::new(false),
            as_of: AtomicI64::new(0),
            advanced: AtomicU64::new(0),
            began: clock.monotonic(),
            clock,
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire)
    }

    /// Whether a key that is not known does not exist: the server sends each change.
    pub(crate) fn knows_all_keys(&self) -> bool {
        self.is_current.load(Ordering::Acquire) && self.are_keys_current.load(Ordering::Acquire)
    }

    pub(crate) fn set_keys_current(&self, are_current: bool) {
        self.are_keys_current.store(are_current, Ordering::Release);
    }

    pub(crate) fn snapshot_complete(&self) {
        self.is_ready.store(true, Ordering::Release);
        self.is_current.store(true, Ordering::Release);
    }

    pub(crate) fn interrupted(&self) {
        self.is_current.store(false, Ordering::Release);
    }

    /// A heartbeat that says `as_of` has come. Of several replicas the one that knows more counts, unless
    /// a new epoch began.
    pub(crate) fn heartbeat(&self, as_of: UnixMillis, is_new_epoch: bool) {
        if is_new_epoch || as_of.0 > self.as_of.load(Ordering::Acquire) {
            self.advanced.store(self.elapsed(), Ordering::Release);
            self.as_of.store(as_of.0, Ordering::Release);
        }
    }

    pub(crate) fn as_of(&self) -> Option<UnixMillis> {
        match self.as_of.load(Ordering::Acquire) {
            0 => None,
            millis => Some(UnixMillis(millis)),
        }
    }

    /// How old the knowledge is: the time since the server's `as_of` last advanced, on a clock that nobody sets. The time of day
    /// counts only beyond what two clocks may differ by: it tells of a server that had fallen behind before it was connected to, and of a time in
    /// which this machine was asleep.
    pub(crate) fn staleness(&self, now: UnixMillis) -> Duration {
        let Some(as_of) = self.as_of() else {
            return Duration::MAX;
        };
        let since = self.elapsed() - self.advanced.load(Ordering::Acquire).min(self.elapsed());
        let by_day = now.since(as_of).saturating_sub(CLOCKS_DIFFER);
        by_day.max(Duration::from_millis(since))
    }

    fn elapsed(&self) -> u64 {
        let elapsed = self.clock.monotonic().saturating_duration_since(self.began);
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    #[test]
    fn clocks_that_differ_by_five_seconds_do_not_make_knowledge_old() {
        for skew in [-5_000, 0, 5_000] {
            let progress = Progress::new(Clock::System);
            assert_eq!(progress.staleness(NOW), Duration::MAX);
            progress.heartbeat(NOW, false);
            let staleness = progress.staleness(UnixMillis(NOW.0 + skew));
            assert!(staleness < Duration::from_secs(5), "{skew}: {staleness:?}");
        }
    }

    #[test]
    fn a_server_that_has_fallen_behind_is_noticed_at_once() {
        let progress = Progress::new(Clock::System);
        progress.heartbeat(UnixMillis(NOW.0 - 600_000), false);
        assert!(progress.staleness(NOW) >= Duration::from_secs(590));
    }

    #[test]
    fn an_older_heartbeat_does_not_move_the_time_back_unless_the_epoch_is_new() {
        let progress = Progress::new(Clock::System);
        progress.heartbeat(NOW, false);
        let earlier = UnixMillis(NOW.0 - 1_000);
        progress.heartbeat(earlier, false);
        assert_eq!(progress.as_of(), Some(NOW));
        progress.heartbeat(earlier, true);
        assert_eq!(progress.as_of(), Some(earlier));
    }
}

//! How late tasks run because the machine is busy with something else, so that times can be checked on any machine.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep};

/// How many times something has to be scheduled within the time that a test checks.
const STEPS: u32 = 20;

/// The greatest lateness since it was begun to be measured.
pub struct Lateness(Arc<AtomicU64>);

impl Lateness {
    pub fn measure() -> Self {
        const PAUSE: Duration = Duration::from_millis(5);
        let max = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&max);
        tokio::spawn(async move {
            // Until the test is over.
            while Arc::strong_count(&seen) > 1 {
                let start = Instant::now();
                sleep(PAUSE).await;
                let late = start.elapsed().saturating_sub(PAUSE).as_micros();
                seen.fetch_max(u64::try_from(late).unwrap(), Ordering::Relaxed);
            }
        });
        Self(max)
    }

    /// What a bound has to allow for besides the promise.
    pub fn allowance(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed)) * STEPS
    }
}

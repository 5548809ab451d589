//! Listens for notifications of the database: wakes the sync when a replica has written, and reconnects when the
//! connection is lost.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::Notify, time};

use crate::store::{ChangeListener, Store, StoreError};

/// How long no notification may come before the connection is tested.
const SILENCE: Duration = Duration::from_secs(5);

/// Listens for ever, and wakes `wake` at each notification and after each reconnection.
pub(super) async fn listen(store: Store, wake: Arc<Notify>) {
    let mut backoff = Backoff::default();
    loop {
        let lost = match store.listen().await {
            Ok(listener) => {
                tracing::debug!("listening for changes");
                backoff.reset();
                // Notifications sent meanwhile are lost.
                wake.notify_one();
                follow(listener, &wake).await
            }
            Err(error) => error,
        };
        let delay = backoff.next();
        tracing::warn!(
            error = %lost,
            ?delay,
            "not listening for notifications: changes are polled until the connection is restored"
        );
        time::sleep(delay).await;
    }
}

/// Wakes `wake` at each notification until the connection is lost.
async fn follow(mut listener: ChangeListener, wake: &Notify) -> StoreError {
    loop {
        let received = match time::timeout(SILENCE, listener.next()).await {
            Ok(received) => received.inspect(|()| wake.notify_one()),
            Err(_silence) => listener.check().await,
        };
        if let Err(error) = received {
            return error;
        }
    }
}

/// Delays that double, so that a database in trouble is not overloaded, with jitter, so that replicas
/// do not reconnect all at once.
#[derive(Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(5);

    fn reset(&mut self) {
        self.failures = 0;
    }

    fn next(&mut self) -> Duration {
        let doubled = Self::FIRST * 2_u32.saturating_pow(self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let delay = doubled.min(Self::LONGEST);
        // Three to four quarters of it.
        delay * 3 / 4 + delay / 4 * random_percent() / 100
    }
}

/// It need not be secret: the standard library's seed for hash tables is random enough.
fn random_percent() -> u32 {
    let random = RandomState::new().build_hasher().finish() % 101;
    u32::try_from(random).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_five_seconds_and_start_again() {
        let mut backoff = Backoff::default();
        for expected in [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
            let expected = Duration::from_millis(expected);
            let delay = backoff.next();
            assert!(delay <= expected && delay >= expected * 3 / 4, "{delay:?}");
        }
        for _ in 0..100 {
            assert!(backoff.next() <= Backoff::LONGEST);
        }
        backoff.reset();
        assert!(backoff.next() <= Backoff::FIRST);
    }
}

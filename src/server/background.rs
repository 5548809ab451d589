//! Tasks that run beside the requests: health, and deleting old rows.

use std::time::Duration;

use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{grpc::health::HealthStatuses, http::Readiness, store::Store};

/// How often the database is pinged.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// How soon it is pinged after an operation could not write.
const SHORTEST_PING_INTERVAL: Duration = Duration::from_millis(50);
/// How often the other replicas are told that this one reaches the database.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);

/// Publishes what the server can do: to the gRPC health service and to the HTTP port.
pub(super) struct HealthPublisher {
    pub store: Store,
    pub statuses: HealthStatuses,
    pub readiness: watch::Sender<Readiness>,
    /// From its cancellation on, nothing is serving.
    pub shutting_down: CancellationToken,
}

impl HealthPublisher {
    /// Pings the database, which also closes its circuit breaker again, and publishes the result, until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        self.publish().await;
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.shutting_down.cancelled(), if self.readiness.borrow().validation => {}
                () = next_ping(&self.store) => self.ping().await,
            }
            self.publish().await;
        }
    }

    async fn ping(&self) {
        let was_available = self.readiness.borrow().database;
        let answer = self.store.ping().await;
        match (answer, self.store.is_available()) {
            (Err(error), false) if was_available => {
                tracing::error!(%error, "the database does not answer: only calls that need no database are served");
            }
            (Ok(()), _) if !was_available => tracing::info!("the database answers again"),
            _ => {}
        }
    }

    async fn publish(&mut self) {
        let readiness = Readiness {
            validation: !self.shutting_down.is_cancelled(),
            database: self.store.is_available(),
        };
        self.statuses.publish(readiness).await;
        self.readiness.send_replace(readiness);
    }
}

/// Tells the other replicas, by way of the database, when this one could reach it.
pub(super) async fn heartbeat(store: Store, stop: CancellationToken) {
    // A failure is logged by the health publisher, which pings the database.
    let _ = store.end_heartbeats().await;
    loop {
        let _ = store.write_heartbeat().await;
        if !next_tick(HEARTBEAT_INTERVAL, &stop).await {
            break;
        }
    }
    if let Err(error) = store.end_heartbeats().await {
        tracing::debug!(%error, "the heartbeat of this replica could not be written: others will treat it as disconnected");
    }
}

/// Waits for the next ping: a second, or less when an operation could not write.
async fn next_ping(store: &Store) {
    tokio::select! {
        () = sleep(PING_INTERVAL) => {}
        () = store.suspicion() => sleep(SHORTEST_PING_INTERVAL).await,
    }
}

/// Waits for the period; false when it is time to stop.
pub(super) async fn next_tick(period: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = sleep(period) => true,
    }
}

//! What goes on beside the requests.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{grpc::health::HealthState, store::Store};

/// How often the database is asked for a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// How soon it is asked after an operation could not write.
const SHORTEST_PING_INTERVAL: Duration = Duration::from_millis(50);
/// How often the other replicas are told that this one reaches the database.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);

/// Keeps the circuit breaker and the health service in step with the database; in the end it says
/// NOT_SERVING for every service and, by dropping `health`, ends every watch.
pub(super) async fn watch_database(store: Store, health: HealthState, stop: CancellationToken) {
    let mut was_available = true;
    while next_ping(&store, &stop).await {
        let answer = store.ping().await;
        let is_available = store.is_available();
        match answer {
            Err(error) if was_available && !is_available => {
                tracing::error!(%error, "database lost: validation goes on, all else is refused");
            }
            Ok(()) if !was_available => tracing::info!("database is back"),
            _ => {}
        }
        was_available = is_available;
        health.publish(true, is_available);
    }
    health.publish(false, false);
}

/// Tells the other replicas, by way of the database, when this one could reach it.
pub(super) async fn heartbeat(store: Store, stop: CancellationToken) {
    // A failure is logged where the watchdog notices it.
    let _ = store.end_heartbeats().await;
    loop {
        let _ = store.write_heartbeat().await;
        if !next_tick(HEARTBEAT_INTERVAL, &stop).await {
            break;
        }
    }
    if let Err(error) = store.end_heartbeats().await {
        tracing::debug!(%error, "the other replicas will take this one for cut off");
    }
}

/// Waits for the next ping: a second, or less when an operation could not write.
async fn next_ping(store: &Store, stop: &CancellationToken) -> bool {
    tokio::select! {
        goes_on = next_tick(PING_INTERVAL, stop) => goes_on,
        () = store.suspicion() => next_tick(SHORTEST_PING_INTERVAL, stop).await,
    }
}

/// Waits; `false` when it is time to stop.
pub(super) async fn next_tick(period: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(period) => true,
    }
}

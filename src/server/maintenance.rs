//! Upkeep of the tables, beside the requests: deletes expired rows, revokes the rows of ended sessions, audits
//! refused attempts, and writes down when service keys were last used.
//!
//! Every replica does all of it. Two at once are harmless: each skips the rows that the other has processed.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::background::next_tick;
use crate::{auth::Auth, store::Store};

/// How often rows that have outlived their use are deleted.
const PURGE_INTERVAL: Duration = Duration::from_secs(600);
/// How often ended sessions are looked for that another process left behind.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// How often refused attempts are written into the audit trail.
const REFUSALS_INTERVAL: Duration = Duration::from_secs(1);

/// How often it is written down when service keys were last used, which is known to the minute.
const KEY_USES_INTERVAL: Duration = Duration::from_secs(20);

/// Deletes what has outlived its use, until `stop`. By the clock that all replicas share: one whose own clock is ahead would
/// delete revocations and sessions that the others need.
pub(super) async fn purge(store: Store, stop: CancellationToken) {
    while next_tick(PURGE_INTERVAL, &stop).await {
        let purge = async { store.purge(store.shared_now().await?).await };
        tokio::select! {
            () = stop.cancelled() => return,
            purged = purge => match purged {
                Ok(rows) => tracing::debug!(rows, "old rows deleted"),
                Err(error) => tracing::warn!(%error, "old rows could not be deleted; trying again later"),
            },
        }
    }
}

/// Revokes the rows of sessions that ended by their epoch, until `stop`.
pub(super) async fn sweep_sessions(auth: Auth, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = auth.sweep_requested() => {}
            () = sleep(SWEEP_INTERVAL) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            swept = auth.sweep_sessions() => match swept {
                Ok(0) => {}
                Ok(rows) => tracing::info!(rows, "rows of ended sessions revoked"),
                // The next look comes soon, and an outage is logged by the watchdog.
                Err(error) => tracing::debug!(%error, "rows of ended sessions could not be revoked"),
            },
        }
    }
}

/// Writes the audit events of refused attempts, until `stop` and once more then.
pub(super) async fn write_refusals(auth: Auth, stop: CancellationToken) {
    loop {
        let goes_on = next_tick(REFUSALS_INTERVAL, &stop).await;
        match auth.write_refusals().await {
            Err(error) if goes_on => {
                tracing::debug!(%error, "refused attempts could not be audited; trying again");
            }
            Err(error) => {
                tracing::warn!(%error, "the last refused attempts could not be audited: their events are lost");
            }
            Ok(()) => {}
        }
        if !goes_on {
            return;
        }
    }
}

/// Writes down when service keys were last used, until `stop` and once more then.
pub(super) async fn record_key_uses(auth: Auth, stop: CancellationToken) {
    loop {
        let goes_on = next_tick(KEY_USES_INTERVAL, &stop).await;
        if let Err(error) = auth.record_key_uses().await {
            tracing::debug!(%error, "the last uses of service keys could not be written");
        }
        if !goes_on {
            return;
        }
    }
}

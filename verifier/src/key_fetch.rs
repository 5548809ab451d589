//! Asks the server for its keys when a token names one that is not known.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

use crate::{
    pb::{GetJwksRequest, verifier_service_client::VerifierServiceClient},
    shared::Shared,
};

/// The least time between two requests, however many tokens name unknown keys.
const INTERVAL: Duration = Duration::from_secs(10);

/// Waits until keys are wanted, asks once, and rests.
pub(crate) async fn run(shared: Arc<Shared>, channel: Channel, patience: Duration) {
    let mut client = VerifierServiceClient::new(channel);
    loop {
        shared.keys_wanted.notified().await;
        match timeout(patience, client.get_jwks(GetJwksRequest {})).await {
            Ok(Ok(response)) => {
                // It may come from a replica that lags behind the feed, so it only adds.
                let is_usable = shared.local.add_jwks(&response.get_ref().jwks_json).is_ok();
                shared.count_malformed(usize::from(!is_usable));
            }
            Ok(Err(status)) => tracing::warn!(code = ?status.code(), "keys could not be fetched"),
            Err(_) => tracing::warn!("keys could not be fetched in time"),
        }
        shared.keys_rest.store(true, Ordering::Release);
        shared.keys_fetched.send_modify(|count| *count += 1);
        sleep(INTERVAL).await;
        shared.keys_rest.store(false, Ordering::Release);
    }
}

//! Data migrations after an upgrade that SQL cannot compute, such as the keys of e-mail addresses.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::background::next_tick;
use crate::{
    clock::{Clock, Timestamp},
    passwords::{PasswordHash, Passwords},
    store::{EmailIdentities, Store, StoreError},
};

/// How often the list of password parameters is read.
const PARAMETERS_INTERVAL: Duration = Duration::from_secs(60);

/// After how many readings parameters that no user has are taken off the list: once in an hour.
const PARAMETERS_ROUNDS: u32 = 60;

/// How many conflicts the server logs one by one at a start; `countersign migrate` prints all.
const MAX_LOGGED: usize = 100;

/// Gives e-mail keys to users of an earlier version, and lists the parameters of their password hashes. Repeating it
/// does no harm.
///
/// # Errors
/// The database fails.
pub async fn upgrade_users(store: &Store, now: Timestamp) -> Result<EmailIdentities, StoreError> {
    let parameters_of = |hash: &str| {
        let hash = PasswordHash::from_stored(hash.to_owned());
        hash.parameters()
    };
    let done = store.assign_email_identities(parameters_of).await?;
    let parameters: Vec<String> = done.password_parameters.iter().cloned().collect();
    store.record_password_parameters(&parameters, now).await?;
    Ok(done)
}

/// Writes what [`upgrade_users`] did into the log.
pub(super) fn log_upgrade(done: &EmailIdentities) {
    if done.assigned > 0 {
        tracing::info!(
            users = done.assigned,
            "e-mail keys of users were filled in after the upgrade"
        );
    }
    for conflict in done.conflicts.iter().take(MAX_LOGGED) {
        tracing::warn!(
            owner = %conflict.owner,
            other = %conflict.other,
            "two users have one mailbox: each logs in with the address as it was registered"
        );
    }
    let more = done.conflicts.len().saturating_sub(MAX_LOGGED);
    if more > 0 {
        tracing::warn!(
            more,
            "users share a mailbox: `countersign migrate` lists them"
        );
    }
}

/// Brings the database's list of password parameters and the one in memory in step. See
/// [`Passwords::set_stored_parameters`].
///
/// # Errors
/// The database fails.
pub(super) async fn sync_password_parameters(
    store: &Store,
    passwords: &Passwords,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut parameters = passwords.unlisted_parameters();
    parameters.push(passwords.current_parameters());
    store.record_password_parameters(&parameters, now).await?;
    passwords.set_stored_parameters(store.password_parameters().await?);
    Ok(())
}

/// Keeps the list of password parameters in step with the other replicas, and takes those off it that no user has.
pub(super) async fn follow_password_parameters(
    store: Store,
    passwords: Passwords,
    clock: Clock,
    stop: CancellationToken,
) {
    let current = passwords.current_parameters();
    let mut rounds: u32 = 0;
    while next_tick(PARAMETERS_INTERVAL, &stop).await {
        rounds = rounds.wrapping_add(1);
        if rounds.is_multiple_of(PARAMETERS_ROUNDS) {
            match store.forget_unused_password_parameters(&current).await {
                Ok(forgotten) => tracing::debug!(forgotten, "unused password parameters"),
                Err(error) => tracing::debug!(%error, "unused password parameters stay listed"),
            }
        }
        if let Err(error) = sync_password_parameters(&store, &passwords, clock.now()).await {
            tracing::debug!(%error, "the list of password parameters could not be read");
        }
    }
}

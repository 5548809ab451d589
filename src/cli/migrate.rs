//! `countersign migrate`: the migrations that the server runs at its start, as a command of their own.

use super::{Outcome, block_on, say};
use crate::{
    clock::Clock,
    config::Config,
    server::{StartError, upgrade_users},
    store::{Store, StoreError},
    telemetry,
};

pub(super) fn run(config: &Config) -> Outcome {
    block_on(async {
        // It may have to wait, and says for what.
        let telemetry = telemetry::init(&config.telemetry).map_err(|error| error.to_string())?;
        let migrated = migrate(config).await;
        telemetry.shutdown().await;
        migrated.map_err(|error| StartError::from(error).to_string())
    })
}

async fn migrate(config: &Config) -> Result<(), StoreError> {
    let store = Store::open_or_create(&config.database)?;
    let applied = store.migrate().await?;
    say(format_args!("countersign: {applied} migrations applied"));
    if store.loses_sessions() {
        say(format_args!(
            "countersign: the database is reached through a pooler that does not keep sessions; the server brings the \
             users up to date when it starts"
        ));
        return Ok(());
    }
    let users = upgrade_users(&store, Clock::System.now()).await?;
    if users.assigned > 0 {
        say(format_args!(
            "countersign: {} e-mail keys of users were filled in after the upgrade",
            users.assigned
        ));
    }
    for conflict in users.conflicts {
        say(format_args!(
            "countersign: users {} and {} have one mailbox: each logs in with the address as it was registered",
            conflict.owner, conflict.other
        ));
    }
    Ok(())
}

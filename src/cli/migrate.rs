//! `countersign migrate`: the same migrations that the server runs at start, for those who want them apart.

use super::{Outcome, block_on, say};
use crate::{
    clock::Clock,
    config::Config,
    server::upgrade_users,
    store::{Store, StoreError},
};

pub(super) fn run(config: &Config) -> Outcome {
    block_on(async {
        let store = Store::open_or_create(&config.database)?;
        let applied = store.migrate().await?;
        say(format_args!("countersign: {applied} migrations applied"));
        let users = upgrade_users(&store, Clock::System.now()).await?;
        if users.assigned > 0 {
            say(format_args!(
                "countersign: {} users have got an e-mail key",
                users.assigned
            ));
        }
        for conflict in users.conflicts {
            say(format_args!(
                "countersign: users {} and {} have one mailbox: each logs in with the address as it was registered",
                conflict.owner, conflict.other
            ));
        }
        Ok::<_, StoreError>(())
    })
}

//! `countersign migrate`: the same migrations that the server runs at start, for those who want them apart.

use super::{Outcome, block_on, say};
use crate::{
    config::Config,
    store::{Store, StoreError},
};

pub(super) fn run(config: &Config) -> Outcome {
    block_on(async {
        let applied = Store::open_or_create(&config.database)?.migrate().await?;
        say(format_args!("countersign: {applied} migrations applied"));
        Ok::<_, StoreError>(())
    })
}

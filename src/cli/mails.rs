//! `countersign mails`: the mails that were given up, and another attempt for them.

use clap::Subcommand;

use super::{Outcome, block_on, say};
use crate::{clock::Clock, config::Config, store::Store};

#[derive(Subcommand)]
pub(super) enum MailsCommand {
    /// List the mails that could not be delivered, the latest first
    List,
    /// Send mails that could not be delivered again
    Requeue {
        /// The id of one mail, as `list` prints it
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        id: Option<String>,
        /// All of them
        #[arg(long)]
        all: bool,
    },
}

pub(super) fn run(config: &Config, command: &MailsCommand) -> Outcome {
    block_on(async {
        let store = Store::open(&config.database).map_err(|error| error.to_string())?;
        match command {
            MailsCommand::List => list(&store).await,
            MailsCommand::Requeue { id, .. } => requeue(&store, id.as_deref()).await,
        }
    })
}

async fn list(store: &Store) -> Result<(), String> {
    let failed = store
        .failed_mails()
        .await
        .map_err(|error| error.to_string())?;
    for mail in failed {
        say(format_args!(
            "{} {} queued={} failed={} attempts={} error={:?}",
            mail.id, mail.kind, mail.created_at, mail.failed_at, mail.attempts, mail.failure
        ));
    }
    Ok(())
}

async fn requeue(store: &Store, id: Option<&str>) -> Result<(), String> {
    let now = Clock::System.now();
    let requeued = store
        .requeue_mails(id, now)
        .await
        .map_err(|error| error.to_string())?;
    if requeued == 0 && id.is_some() {
        return Err("no undeliverable mail has this id".to_owned());
    }
    say(format_args!(
        "countersign: {requeued} mails will be sent again"
    ));
    Ok(())
}

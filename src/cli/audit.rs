//! `countersign audit`: the audit trail as JSON lines, for a log collector or an archive.

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::Subcommand;
use serde_json::Value;
use tokio::time::sleep;

use super::{Outcome, block_on, unwritten};
use crate::{
    auth::{AuditExport, ExportError, ExportedEvent},
    config::Config,
    store::Store,
};

/// How often new events are looked for.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Subcommand)]
pub(super) enum AuditCommand {
    /// Print every audit event exactly once, as JSON lines
    ///
    /// Each line has a `cursor`: an export with this cursor continues with the next event. Events are in the order in which
    /// exports first saw them: the order of their times, except for concurrent transactions. The schemas are in
    /// docs/audit-schema/.
    Export {
        /// Keep running, and print new events within a second or two
        #[arg(long)]
        follow: bool,
        /// Start after the event whose line had this cursor; without one, start with the oldest event
        #[arg(long)]
        cursor: Option<String>,
    },
}

pub(super) fn run(config: &Config, command: AuditCommand) -> Outcome {
    let AuditCommand::Export { follow, cursor } = command;
    block_on(async {
        let store = Store::open(&config.database)?;
        let mut export = AuditExport::begin(store, cursor.as_deref()).await?;
        print_events(&mut export, follow).await
    })
}

async fn print_events(export: &mut AuditExport, follow: bool) -> Result<(), ExportError> {
    loop {
        let events = match export.next_events().await {
            Ok(events) => events,
            // A collector should not have to start again because the database did.
            Err(ExportError::Store(error)) if follow && error.is_passing() => {
                eprintln!("countersign: {error}; trying again");
                sleep(FOLLOW_INTERVAL).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        if events.is_empty() {
            if !follow {
                return Ok(());
            }
            sleep(FOLLOW_INTERVAL).await;
        } else if let Err(error) = print(&events) {
            // An archive with a gap must not look whole.
            unwritten(error);
            return Ok(());
        }
    }
}

fn print(events: &[ExportedEvent]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    for exported in events {
        let mut line = exported.event.to_json();
        line["cursor"] = Value::String(exported.cursor.clone());
        serde_json::to_writer(&mut output, &line)?;
        output.write_all(b"\n")?;
    }
    output.flush()
}

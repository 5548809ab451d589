//! `countersign service-keys`: create, list and revoke the keys by which services prove themselves.

use std::{error::Error, time::Duration};

use clap::Subcommand;

use super::{
    Outcome, block_on, context, master_keys, say,
    service_accounts::{administration, name, open},
};
use crate::{
    clock::{Clock, Timestamp},
    config::Config,
    domain::{ServiceAccountName, ServiceKeyId},
    store::Store,
};

/// The command in audit events.
const CONTEXT: &str = "service-keys";

/// Keys read at once.
const PAGE: u16 = 1_000;

#[derive(Subcommand)]
pub(super) enum ServiceKeysCommand {
    /// Create a key and print only the key on standard output: it cannot be displayed later
    Create {
        /// The name of the service account
        #[arg(value_parser = name)]
        name: ServiceAccountName,
        /// How long it is valid, such as 30d; at most 366d
        #[arg(long, value_parser = life)]
        expires_in: Duration,
    },
    /// List the keys of a service account that are not revoked, the oldest first
    List {
        /// The name of the service account
        #[arg(value_parser = name)]
        name: ServiceAccountName,
    },
    /// Revoke a key: its tokens are revoked at once, on every replica
    Revoke {
        /// The key's id, as `service-keys list` prints it
        key_id: ServiceKeyId,
    },
}

fn life(text: &str) -> Result<Duration, &'static str> {
    // No sensible text is longer, and humantime 2.4 does not cope with every one that is.
    let parsed = Some(text)
        .filter(|text| text.len() <= 24)
        .and_then(|text| humantime::parse_duration(text).ok());
    parsed.ok_or("use a number with its unit, such as 30d")
}

pub(super) fn run(config: &Config, command: ServiceKeysCommand) -> Outcome {
    block_on(async {
        match command {
            ServiceKeysCommand::Create { name, expires_in } => {
                create(config, &name, expires_in).await
            }
            ServiceKeysCommand::List { name } => list(config, &name).await,
            ServiceKeysCommand::Revoke { key_id } => {
                let context = context(CONTEXT);
                open(config)?.revoke_key(key_id, &context).await?;
                say(format_args!(
                    "countersign: service key revoked key_id={key_id}"
                ));
                Ok(())
            }
        }
    })
}

async fn create(
    config: &Config,
    name: &ServiceAccountName,
    expires_in: Duration,
) -> Result<(), Box<dyn Error>> {
    let store = Store::open(&config.database)?;
    let keys = master_keys(config, &store).await?;
    let accounts = administration(config, store);
    let account = accounts.find_by_name(name).await?;
    let expires_at = Clock::System.now() + expires_in;
    let created = accounts
        .create_key(account.id, expires_at, &keys, &context(CONTEXT))
        .await;
    let (secret, key) = created.map_err(super::in_words)?;
    // Standard output has the key alone, so that it can go into a file.
    eprintln!(
        "countersign: service key created key_id={} name={} expires={}",
        key.id,
        name.as_str(),
        key.expires_at
    );
    say(format_args!("{}", secret.expose()));
    Ok(())
}

async fn list(config: &Config, name: &ServiceAccountName) -> Result<(), Box<dyn Error>> {
    let accounts = open(config)?;
    let account = accounts.find_by_name(name).await?;
    let mut after = None;
    loop {
        let page = accounts.list_keys(account.id, after, PAGE).await?;
        for key in &page.items {
            let last_use = key.last_used_at.as_ref().map(Timestamp::to_string);
            say(format_args!(
                "key_id={} created={} expires={} last_use={}",
                key.id,
                key.created_at,
                key.expires_at,
                last_use.as_deref().unwrap_or("never"),
            ));
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

//! `countersign service-accounts`: create, list, disable, enable and delete the accounts of services.

use std::error::Error;

use clap::Subcommand;

use super::{Outcome, block_on, context, role, say};
use crate::{
    auth::{NewServiceAccount, ServiceAccounts},
    clock::Clock,
    config::Config,
    domain::{DisplayName, Role, Roles, ServiceAccount, ServiceAccountName},
    store::Store,
};

/// Accounts read at once.
const PAGE: u16 = 1_000;

#[derive(Subcommand)]
pub(super) enum ServiceAccountsCommand {
    /// Create a service account; `service-keys create` creates a key for it
    Create {
        /// The name: a letter a-z, then up to 62 of a-z, 0-9 and -
        #[arg(value_parser = name)]
        name: ServiceAccountName,
        /// A role of its tokens; may be given several times
        ///
        /// `verifier` gives access to WatchRevocations, `admin` to AdminService.
        #[arg(long = "role", value_parser = role)]
        roles: Vec<Role>,
        /// An audience that its tokens may have; may be given several times. Without one: the first of COUNTERSIGN_AUDIENCES
        #[arg(long = "audience")]
        audiences: Vec<String>,
        /// An audience at which it may act for users (ExchangeToken); may be given several times
        #[arg(long = "act-for-users-at", value_name = "AUDIENCE")]
        act_for_users_at: Vec<String>,
    },
    /// List the service accounts, the oldest first
    List,
    /// Disable a service account: its tokens are revoked at once, on every replica
    Disable {
        /// The name
        #[arg(value_parser = name)]
        name: ServiceAccountName,
    },
    /// Enable a disabled service account: its keys work again
    Enable {
        /// The name
        #[arg(value_parser = name)]
        name: ServiceAccountName,
    },
    /// Delete a service account with its keys: its tokens are revoked at once, on every replica
    Delete {
        /// The name
        #[arg(value_parser = name)]
        name: ServiceAccountName,
    },
}

pub(super) fn name(text: &str) -> Result<ServiceAccountName, &'static str> {
    ServiceAccountName::parse("NAME", text).map_err(|_| ServiceAccountName::RULE)
}

/// Administration of the service accounts in the database of this configuration.
pub(super) fn open(config: &Config) -> Result<ServiceAccounts, Box<dyn Error>> {
    Ok(administration(config, Store::open(&config.database)?))
}

/// Administration of the service accounts in this database.
pub(super) fn administration(config: &Config, store: Store) -> ServiceAccounts {
    let tokens = &config.tokens;
    ServiceAccounts::standalone(
        store,
        Clock::System,
        tokens.audiences.clone(),
        tokens.access_ttl,
        tokens.leeway,
    )
}

pub(super) fn run(config: &Config, command: ServiceAccountsCommand) -> Outcome {
    block_on(async { carry_out(&open(config)?, command).await })
}

async fn carry_out(
    accounts: &ServiceAccounts,
    command: ServiceAccountsCommand,
) -> Result<(), Box<dyn Error>> {
    let context = context("service-accounts");
    let (what, account) = match command {
        ServiceAccountsCommand::Create {
            name,
            roles,
            audiences,
            act_for_users_at,
        } => {
            let new = NewServiceAccount {
                name,
                display_name: DisplayName::from_stored(String::new()),
                roles: Roles::new(roles),
                audiences,
                act_for_users_at,
            };
            let created = accounts.create(new, &context).await;
            ("created", created.map_err(super::in_words)?)
        }
        ServiceAccountsCommand::List => return list(accounts).await,
        ServiceAccountsCommand::Disable { name } => {
            let id = accounts.find_by_name(&name).await?.id;
            ("disabled", accounts.disable(id, &context).await?.outcome)
        }
        ServiceAccountsCommand::Enable { name } => {
            let id = accounts.find_by_name(&name).await?.id;
            ("enabled", accounts.enable(id, &context).await?)
        }
        ServiceAccountsCommand::Delete { name } => {
            let account = accounts.find_by_name(&name).await?;
            accounts.delete(account.id, &context).await?;
            ("deleted", account)
        }
    };
    say(format_args!(
        "countersign: service account {what} {}",
        line(&account)
    ));
    Ok(())
}

async fn list(accounts: &ServiceAccounts) -> Result<(), Box<dyn Error>> {
    let mut after = None;
    loop {
        let page = accounts.list(after, PAGE).await?;
        for account in &page.items {
            say(format_args!("{}", line(account)));
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

fn line(account: &ServiceAccount) -> String {
    format!(
        "name={} service_account_id={} roles=\"{}\" audiences=\"{}\" act_for_users_at=\"{}\" disabled={}",
        account.name.as_str(),
        account.id,
        account.roles.to_stored(),
        account.audiences.join(" "),
        account.act_for_users_at.join(" "),
        account.disabled_at.is_some(),
    )
}

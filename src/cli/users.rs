//! `countersign users`: grant and revoke roles, disable and enable users. It needs the configuration and no
//! administrator's token, so it also makes the first administrator.

use std::error::Error;

use clap::Subcommand;

use super::{Outcome, block_on, say};
use crate::{
    auth::{RequestContext, Users},
    clock::Clock,
    config::Config,
    domain::{Email, Role},
    store::Store,
    tokens::DerivedKeys,
};

#[derive(Subcommand)]
pub(super) enum UsersCommand {
    /// Grant a role to a user
    ///
    /// The user's access tokens carry it from the next login or refresh on. `admin` opens AdminService,
    /// `verifier` opens WatchRevocations.
    Grant {
        /// The user's e-mail address
        #[arg(value_parser = email)]
        email: Email,
        /// The role: 1 to 64 of a-z, 0-9, _ - . :
        #[arg(value_parser = role)]
        role: Role,
    },
    /// Revoke a role from a user
    ///
    /// Access tokens that carry it stay valid until they expire; `users disable` revokes them at once.
    Revoke {
        /// The user's e-mail address
        #[arg(value_parser = email)]
        email: Email,
        /// The role
        #[arg(value_parser = role)]
        role: Role,
    },
    /// Disable a user: sessions end and access tokens are revoked at once, on every replica
    Disable {
        /// The user's e-mail address
        #[arg(value_parser = email)]
        email: Email,
    },
    /// Enable a disabled user
    Enable {
        /// The user's e-mail address
        #[arg(value_parser = email)]
        email: Email,
    },
    /// Forgive a user's failed logins: the next login is judged without delay, on every replica
    Unlock {
        /// The user's e-mail address
        #[arg(value_parser = email)]
        email: Email,
    },
    /// Remove all second factors and recovery codes of a user, who has lost them; sessions end at once
    RemoveFactors {
        /// The user's e-mail address
        #[arg(value_parser = email)]
        email: Email,
    },
}

/// The message must not repeat the address: clap does that, and only on the terminal it came from.
fn email(text: &str) -> Result<Email, String> {
    Email::parse("EMAIL", text).map_err(|violation| violation.description)
}

fn role(name: &str) -> Result<Role, &'static str> {
    Role::parse(name).ok_or("a role is 1 to 64 characters of a-z, 0-9, _ - . and :")
}

pub(super) fn run(config: &Config, command: UsersCommand) -> Outcome {
    block_on(async {
        let store = Store::open(&config.database)?;
        let tokens = &config.tokens;
        let users = Users::standalone(store, Clock::System, tokens.access_ttl, tokens.leeway);
        carry_out(&users, config, command).await
    })
}

async fn carry_out(
    users: &Users,
    config: &Config,
    command: UsersCommand,
) -> Result<(), Box<dyn Error>> {
    let context = RequestContext {
        client_ip: "command line".to_owned(),
        ..RequestContext::default()
    };
    let (email, what) = match &command {
        UsersCommand::Grant { email, .. } => (email, "role granted"),
        UsersCommand::Revoke { email, .. } => (email, "role revoked"),
        UsersCommand::Disable { email } => (email, "user disabled"),
        UsersCommand::Enable { email } => (email, "user enabled"),
        UsersCommand::Unlock { email } => (email, "failed logins cleared"),
        UsersCommand::RemoveFactors { email } => (email, "second factors removed"),
    };
    let id = users.find_by_email(email).await?.id;
    let user = match &command {
        UsersCommand::Grant { role, .. } => users.grant_role(id, role, &context).await,
        UsersCommand::Revoke { role, .. } => users.revoke_role(id, role, &context).await,
        UsersCommand::Disable { .. } => users
            .disable_user(id, &context)
            .await
            .map(|disabled| disabled.outcome),
        UsersCommand::Enable { .. } => users.enable_user(id, &context).await,
        UsersCommand::Unlock { .. } => {
            let keys = DerivedKeys::derive(config.master_keys.load()?.as_slice());
            users.clear_login_failures(id, &keys, &context).await
        }
        UsersCommand::RemoveFactors { .. } => {
            users.remove_factors(id, &context).await?;
            users.find(id).await
        }
    }?;
    let roles = user.roles.to_stored();
    say(format_args!(
        "countersign: {what} user_id={id} roles=\"{roles}\" disabled={}",
        user.disabled_at.is_some()
    ));
    Ok(())
}

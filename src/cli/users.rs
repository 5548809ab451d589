//! `countersign users`: what changes a user. It needs the configuration and no administrator's token. (`users_accounts` has
//! `create`, `list` and `show`.)

use std::error::Error;

use clap::Subcommand;

use super::{
    Outcome, block_on, context, master_keys, role, say, users_accounts,
    users_import::{self, ImportArguments},
};
use crate::{
    auth::{NewUser, RequestContext, Users},
    clock::Clock,
    config::Config,
    domain::{DisplayName, Email, Role, Roles, User},
    store::Store,
};

#[derive(Subcommand)]
pub(super) enum UsersCommand {
    /// Import users of another system, with their password hashes
    ///
    /// Can be repeated after a failure: users that are already imported are skipped.
    Import(ImportArguments),
    /// What concerns one user, or lists them.
    #[command(flatten)]
    Account(AccountCommand),
}

#[derive(Subcommand)]
pub(super) enum AccountCommand {
    /// Create a user, for example the first administrator with `--role admin`
    ///
    /// Asks for the password on a terminal; otherwise the first line of standard input is the password. The address counts
    /// as verified.
    Create {
        /// The user's e-mail address
        #[arg(value_parser = email)]
        email: Email,
        /// The name to display
        #[arg(long, default_value = "", value_parser = display_name)]
        display_name: DisplayName,
        /// A role; may be given several times
        #[arg(long = "role", value_parser = role)]
        roles: Vec<Role>,
        /// Do not ask for a password: a running server sends a mail with a token that sets it
        #[arg(long)]
        invite: bool,
    },
    /// List users, the oldest first
    List {
        /// A filter, such as `roles:admin AND disabled = false`; see ListUsers
        #[arg(long, default_value = "")]
        filter: String,
    },
    /// Show a user
    Show {
        /// The user's e-mail address
        #[arg(value_parser = email)]
        email: Email,
    },
    /// Delete a user with all personal data: access tokens are revoked at once, on every replica
    Delete {
        /// The user's e-mail address
        #[arg(value_parser = email)]
        email: Email,
    },
    /// What changes a user.
    #[command(flatten)]
    Change(UserChange),
}

#[derive(Subcommand)]
pub(super) enum UserChange {
    /// Grant a role to a user
    ///
    /// The user's access tokens have it from the next login or refresh on. `admin` gives access to AdminService,
    /// `verifier` to WatchRevocations.
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
    /// Access tokens with the role stay valid until they expire; `users disable` revokes them at once.
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
    /// Reset a user's failed logins: the next login is not delayed, on every replica
    Unlock {
        /// The user's e-mail address
        #[arg(value_parser = email)]
        email: Email,
    },
    /// Remove all second factors and recovery codes of a user who has lost them; all sessions end
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

fn display_name(text: &str) -> Result<DisplayName, String> {
    DisplayName::parse("display-name", text).map_err(|violation| violation.description)
}

pub(super) fn run(config: &Config, command: UsersCommand) -> Outcome {
    let command = match command {
        UsersCommand::Import(arguments) => return users_import::run(config, &arguments),
        UsersCommand::Account(command) => command,
    };
    block_on(async {
        let store = Store::open(&config.database)?;
        let tokens = &config.tokens;
        let (ttl, leeway) = (tokens.access_ttl, tokens.leeway);
        let users = Users::standalone(store.clone(), Clock::System, ttl, leeway);
        carry_out(&users, config, &store, command).await
    })
}

async fn carry_out(
    users: &Users,
    config: &Config,
    store: &Store,
    command: AccountCommand,
) -> Result<(), Box<dyn Error>> {
    let context = context("users");
    match command {
        AccountCommand::Create {
            email,
            display_name,
            roles,
            invite,
        } => {
            let new = NewUser {
                email,
                display_name,
                roles: Roles::new(roles),
            };
            let (what, user) = match invite {
                true => {
                    let invited = users_accounts::invite(users, new, &context).await?;
                    ("user invited", invited)
                }
                false => {
                    let keys = master_keys(config, store).await?;
                    let created = users_accounts::create(users, config, &keys, new, &context);
                    let created = created.await?;
                    ("user created", created)
                }
            };
            report(what, &user);
            Ok(())
        }
        AccountCommand::List { filter } => users_accounts::list(users, &filter).await,
        AccountCommand::Show { email } => users_accounts::show(users, &email).await,
        AccountCommand::Delete { email } => {
            let user = users.find_by_email(&email).await?;
            let keys = master_keys(config, store).await?;
            users.delete(user.id, &keys, &context).await?;
            report("user deleted", &user);
            Ok(())
        }
        AccountCommand::Change(change) => apply(users, config, store, &change, &context).await,
    }
}

async fn apply(
    users: &Users,
    config: &Config,
    store: &Store,
    change: &UserChange,
    context: &RequestContext,
) -> Result<(), Box<dyn Error>> {
    let (email, what) = match change {
        UserChange::Grant { email, .. } => (email, "role granted"),
        UserChange::Revoke { email, .. } => (email, "role revoked"),
        UserChange::Disable { email } => (email, "user disabled"),
        UserChange::Enable { email } => (email, "user enabled"),
        UserChange::Unlock { email } => (email, "failed logins cleared"),
        UserChange::RemoveFactors { email } => (email, "second factors removed"),
    };
    let id = users.find_by_email(email).await?.id;
    let user = match change {
        UserChange::Grant { role, .. } => users.grant_role(id, role, context).await,
        UserChange::Revoke { role, .. } => users.revoke_role(id, role, context).await,
        UserChange::Disable { .. } => users
            .disable_user(id, context)
            .await
            .map(|disabled| disabled.outcome),
        UserChange::Enable { .. } => users.enable_user(id, context).await,
        UserChange::Unlock { .. } => {
            let keys = master_keys(config, store).await?;
            users.clear_login_failures(id, &keys, context).await
        }
        UserChange::RemoveFactors { .. } => {
            users.remove_factors(id, context).await?;
            users.find(id).await
        }
    }?;
    report(what, &user);
    Ok(())
}

/// Says what was done, without personal data.
fn report(what: &str, user: &User) {
    say(format_args!(
        "countersign: {what} user_id={} roles=\"{}\" disabled={}",
        user.id,
        user.roles.to_stored(),
        user.disabled_at.is_some()
    ));
}

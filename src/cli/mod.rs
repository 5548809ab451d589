//! The command line: one file per subcommand, all on the same configuration.

mod audit;
mod backup;
mod config_check;
mod keys;
mod mails;
mod migrate;
mod password_prompt;
mod passwords;
mod serve;
mod service_accounts;
mod service_keys;
mod users;
mod users_accounts;
mod users_import;
mod users_import_report;

use std::{
    io::{self, ErrorKind, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::OnceLock,
};

use clap::{Parser, Subcommand, builder::Str, error::ErrorKind as UsageError};

use crate::{
    auth::{AuthError, RequestContext},
    config::Config,
    cores,
    domain::Role,
    passwords::HashingBackend,
    server::StartError,
    store::Store,
    telemetry,
    tokens::{DerivedKeys, check_master_keys},
};

/// A gRPC authentication service.
///
/// Configured by COUNTERSIGN_* environment variables alone; see .env.example.
#[derive(Parser)]
#[command(name = "countersign", version, long_version = long_version())]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server until SIGTERM, SIGINT or SIGHUP (the default)
    Serve,
    /// Create or update the tables of the database and exit
    Migrate,
    /// Copy the SQLite database to a new file while it is in use
    Backup {
        /// The file to create; it must not exist
        file: PathBuf,
    },
    /// Check the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Create, list, import and delete users, grant and revoke roles, disable and enable users
    Users {
        #[command(subcommand)]
        command: users::UsersCommand,
    },
    /// Export the audit trail
    Audit {
        #[command(subcommand)]
        command: audit::AuditCommand,
    },
    /// Create, list, disable and delete the accounts of services
    ServiceAccounts {
        #[command(subcommand)]
        command: service_accounts::ServiceAccountsCommand,
    },
    /// Create, list and revoke the keys of service accounts
    ServiceKeys {
        #[command(subcommand)]
        command: service_keys::ServiceKeysCommand,
    },
    /// Build the filter of breached passwords
    Passwords {
        #[command(subcommand)]
        command: passwords::PasswordsCommand,
    },
    /// List the mails that could not be delivered, and send them again
    Mails {
        #[command(subcommand)]
        command: mails::MailsCommand,
    },
    /// List and rotate the signing keys
    Keys {
        #[command(subcommand)]
        command: keys::KeysCommand,
    },
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Report every problem of the configuration and exit
    Check,
}

/// The result of a subcommand; decides the exit code.
enum Outcome {
    Done,
    Failed,
    BadUsage,
    BadConfiguration,
}

impl From<Outcome> for ExitCode {
    /// 64 and 78 are EX_USAGE and EX_CONFIG of `sysexits.h`.
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Done => 0,
            Outcome::Failed => 1,
            Outcome::BadUsage => 64,
            Outcome::BadConfiguration => 78,
        })
    }
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error).into(),
    };
    let command = cli.command.unwrap_or(Command::Serve);
    let read = match command {
        // These touch the database alone: a job that migrates needs no key, certificate or issuer.
        Command::Migrate | Command::Backup { .. } => Config::of_database_from_env(),
        _ => Config::from_env(),
    };
    let config = match read {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return Outcome::BadConfiguration.into();
        }
    };
    let outcome = match command {
        // Nobody need read where a server listens.
        Command::Serve => return serve::run(config).into(),
        Command::Migrate => migrate::run(&config),
        Command::Backup { file } => backup::run(&config, &file),
        Command::Config {
            command: ConfigCommand::Check,
        } => config_check::run(&config),
        Command::Users { command } => users::run(&config, command),
        Command::Audit { command } => audit::run(&config, command),
        Command::ServiceAccounts { command } => service_accounts::run(&config, command),
        Command::ServiceKeys { command } => service_keys::run(&config, command),
        Command::Passwords { command } => passwords::run(&command),
        Command::Mails { command } => mails::run(&config, &command),
        Command::Keys { command } => keys::run(&config, &command),
    };
    unless_unwritten(outcome).into()
}

/// The version, the commit if the build knew it, the protos and their fingerprint, and which implementation of Argon2 runs on
/// this processor. Printed by `--version`; `-V` prints the version alone.
fn long_version() -> Str {
    Str::from(format!(
        "{}\ncommit: {}\nprotos: countersign.auth.v1 {}\nargon2: {}",
        env!("CARGO_PKG_VERSION"),
        env!("BUILD_COMMIT"),
        env!("BUILD_PROTOS"),
        HashingBackend::detect()
    ))
}

/// The rule that an argument breaks, where the error has one.
fn in_words(error: AuthError) -> Box<dyn std::error::Error> {
    match error {
        AuthError::InvalidFields(violations) => {
            let rules = violations
                .iter()
                .map(|violation| format!("{}: {}", violation.field, violation.description));
            rules.collect::<Vec<_>>().join("; ").into()
        }
        AuthError::WeakPassword(violation) => {
            format!("the password {}", violation.description).into()
        }
        other => other.into(),
    }
}

/// Who is named in audit events: no user, and the command.
fn context(command: &str) -> RequestContext {
    RequestContext {
        client_ip: "command line".to_owned(),
        request_id: format!("countersign {command}"),
        ..RequestContext::default()
    }
}

/// A role in an argument.
fn role(name: &str) -> Result<Role, &'static str> {
    Role::parse(name).ok_or(Role::RULE)
}

/// The master keys, once it is known that they are those of this database: what is made with another key, no server can use.
async fn master_keys(config: &Config, store: &Store) -> Result<DerivedKeys, StartError> {
    let keys = DerivedKeys::derive(config.master_keys.load()?.as_slice());
    check_master_keys(store, &keys).await?;
    Ok(keys)
}

/// Why standard output could not be written, the first time.
static UNWRITTEN: OnceLock<io::Error> = OnceLock::new();

/// Prints a line on standard output. When that fails, the command goes on, and fails at its end.
fn say(line: std::fmt::Arguments<'_>) {
    let mut output = io::stdout();
    if let Err(error) = writeln!(output, "{line}").and_then(|()| output.flush()) {
        unwritten(error);
    }
}

/// Something that was to be printed is lost: the command fails at its end.
fn unwritten(error: io::Error) {
    let _ = UNWRITTEN.set(error);
}

/// The outcome, unless something that was to be printed is lost.
fn unless_unwritten(outcome: Outcome) -> Outcome {
    match (outcome, UNWRITTEN.get()) {
        (Outcome::Done, Some(error)) => {
            // Whoever closed the pipe has seen enough, and knows.
            if error.kind() != ErrorKind::BrokenPipe {
                eprintln!("countersign: standard output cannot be written: {error}");
            }
            Outcome::Failed
        }
        (outcome, _) => outcome,
    }
}

fn usage(error: &clap::Error) -> Outcome {
    let printed = error.print().and_then(|()| io::stdout().flush());
    match (error.kind(), printed) {
        (UsageError::DisplayHelp | UsageError::DisplayVersion, Ok(())) => Outcome::Done,
        (UsageError::DisplayHelp | UsageError::DisplayVersion, Err(_)) => Outcome::Failed,
        _ => Outcome::BadUsage,
    }
}

/// Starts a runtime for a command, reporting a failure in one line.
fn block_on<E: std::fmt::Display>(work: impl Future<Output = Result<(), E>>) -> Outcome {
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // SQLite's writer keeps one of them while it waits for the disk.
        .worker_threads(cores::count().get() + 1)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("countersign: no runtime: {error}");
            return Outcome::Failed;
        }
    };
    match runtime.block_on(work) {
        Ok(()) => Outcome::Done,
        Err(error) => {
            // A server whose log is blocked still has to exit, or it is not restarted.
            telemetry::write_last_line(format!("countersign: {error}"));
            Outcome::Failed
        }
    }
}

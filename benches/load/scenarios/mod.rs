//! What is measured; one file each.

mod cold;
mod compare;
mod ext_authz;
mod growth;
mod import;
mod lists;
mod login;
mod memory;
mod passkeys;
mod refresh;
mod reset;
mod services;
mod start;
mod storm;
mod tls;
mod validate;
mod verifier;
mod watchers;

use std::path::Path;

use super::{error::Result, report::Report};

/// What every scenario is given.
pub struct Bench<'a> {
    /// Whether it has to be quick.
    pub quick: bool,
    /// PostgreSQL's programs, where there are any.
    pub postgres_bin: Option<&'a Path>,
    /// Another build of the service, to compare with.
    pub other: Option<&'a Path>,
    /// The build to measure instead of this one.
    pub this: Option<&'a Path>,
    /// Where the results go.
    pub report: &'a mut Report,
}

impl Bench<'_> {
    /// The one for a quick run, or the other.
    pub fn choose<T>(&self, quick: T, thorough: T) -> T {
        if self.quick { quick } else { thorough }
    }
}

/// A scenario.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Scenario {
    /// `ValidateToken` with tokens seen before, against an echo
    Validate,
    /// `ValidateToken` with tokens never seen before, against an echo that verifies ES256
    Cold,
    /// `ValidateToken` beside 64 logins at once
    Storm,
    /// `Login` against a bare Argon2id loop
    Login,
    /// Logins by passkey against logins by password
    Passkeys,
    /// `Refresh` on PostgreSQL against pgbench
    Refresh,
    /// `RequestPasswordReset` with and without an account
    Reset,
    /// Envoy's `Check`, against an echo with messages of the same size
    ExtAuthz,
    /// `ValidateToken` over TLS against plaintext, and full handshakes against a bare rustls server
    Tls,
    /// `IssueToken` and `ExchangeToken`, against an echo that does the same cryptography
    Services,
    /// All three with a thousand and with a million users
    Growth,
    /// First pages of `ListUsers` and `ListAuditEvents` with a thousand and with a million rows, on PostgreSQL
    Lists,
    /// `users import` on PostgreSQL against COPY, with validation beside it
    Import,
    /// Resident memory
    Memory,
    /// From the start of the process to SERVING
    Start,
    /// The crate: until it knows 100,000 revocations, and its `verify` against `ValidateToken`
    Verifier,
    /// A thousand streams of `WatchRevocations`
    Watchers,
    /// Two builds of the service in turn
    Compare,
}

impl Scenario {
    /// What is being done.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Validate => "validate: tokens seen before, against an echo",
            Self::Cold => "cold: tokens never seen before, against an echo that verifies ES256",
            Self::Storm => "storm: validation beside 64 logins at once",
            Self::Login => "login: against a bare Argon2id loop",
            Self::Passkeys => "passkeys: logins by passkey, against logins by password",
            Self::Refresh => "refresh: on PostgreSQL, against pgbench",
            Self::Reset => "reset: the time of an answer, with and without an account",
            Self::ExtAuthz => "ext_authz: Envoy's Check, against an echo",
            Self::Tls => "tls: against plaintext, and handshakes against bare rustls",
            Self::Services => {
                "services: tokens of services, against an echo that verifies and signs"
            }
            Self::Growth => "growth: a small and a large database",
            Self::Lists => "lists: first pages of a small and of a large database",
            Self::Import => "import: users on PostgreSQL, against COPY",
            Self::Memory => "memory: idle, per revocation, over many validations",
            Self::Start => "start: from the process to SERVING",
            Self::Verifier => "verifier: the crate connects, and verifies against ValidateToken",
            Self::Watchers => "watchers: a thousand that listen, beside validation",
            Self::Compare => "compare: two builds in turn",
        }
    }

    /// Does it.
    pub async fn run(self, bench: &mut Bench<'_>) -> Result<()> {
        match self {
            Self::Validate => validate::run(bench).await,
            Self::Cold => cold::run(bench).await,
            Self::Storm => storm::run(bench).await,
            Self::Login => login::run(bench).await,
            Self::Passkeys => passkeys::run(bench).await,
            Self::Refresh => refresh::run(bench).await,
            Self::Reset => reset::run(bench).await,
            Self::ExtAuthz => ext_authz::run(bench).await,
            Self::Tls => tls::run(bench).await,
            Self::Services => services::run(bench).await,
            Self::Growth => growth::run(bench).await,
            Self::Lists => lists::run(bench).await,
            Self::Import => import::run(bench).await,
            Self::Memory => memory::run(bench).await,
            Self::Start => start::run(bench).await,
            Self::Verifier => verifier::run(bench).await,
            Self::Watchers => watchers::run(bench).await,
            Self::Compare => compare::run(bench).await,
        }
    }
}

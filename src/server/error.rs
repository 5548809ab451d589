//! Why the server does not start: one line for the operator.

use std::{io, net::SocketAddr};

use crate::{
    config::{ConfigError, KeyFileError},
    factors::RewrapError,
    mail::MailError,
    passwords::{FilterError, PasswordError},
    store::StoreError,
    tls::TlsError,
    tokens::KeyringError,
    workloads::issuers::IssuersError,
};

/// What kept the server from starting.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error("COUNTERSIGN_DATABASE_URL: {0}")]
    Store(#[from] StoreError),
    /// What the configuration names cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The signing keys.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The secrets of authenticator apps.
    #[error(transparent)]
    Rewrap(#[from] RewrapError),
    /// The master key file.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// The files of TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The file of trusted issuers.
    #[error(transparent)]
    Issuers(#[from] IssuersError),
    /// The mails.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// The list of breached passwords.
    #[error(transparent)]
    Breached(#[from] FilterError),
    /// The hashing threads.
    #[error("password hashing cannot start: {0}")]
    Passwords(#[from] PasswordError),
    /// A port cannot be bound.
    #[error("{variable}: cannot listen on {address}: {source}{}", hint(source))]
    Bind {
        /// The variable that names the address.
        variable: &'static str,
        /// The configured address.
        address: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// The threads that serve connections.
    #[error("the threads that serve connections cannot be started: {0}")]
    ConnectionWorkers(#[source] std::io::Error),
    /// The reflection descriptors.
    #[error("reflection cannot be served: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// What the operator can do about an address that cannot be bound.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program, perhaps another Countersign, listens there: stop it or use another port"
        }
        io::ErrorKind::AddrNotAvailable => "; use an address of this machine",
        io::ErrorKind::PermissionDenied => "; use a port above 1023",
        _ => "",
    }
}

//! Why the server does not start or stops: one line for the operator.

use std::net::SocketAddr;

use crate::{
    config::KeyFileError, passwords::PasswordError, store::StoreError, tokens::KeyringError,
};

/// What kept the server from starting or serving.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The signing keys.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The master key file.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// The hashing threads.
    #[error("password hashing cannot start: {0}")]
    Passwords(#[from] PasswordError),
    /// A port.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The threads that serve connections.
    #[error("connections cannot be served: {0}")]
    Front(#[source] std::io::Error),
    /// The gRPC transport.
    #[error("gRPC transport failed: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The reflection descriptors.
    #[error("reflection cannot be served: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

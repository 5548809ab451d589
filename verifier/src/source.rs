//! Where access tokens for the feed come from.

use std::{future::Future, pin::Pin};

/// What a source of access tokens answers with.
pub type BearerFuture<'a> =
    Pin<Box<dyn Future<Output = Result<String, CredentialError>> + Send + 'a>>;

/// Why there is no access token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The credential behind it is not accepted: trying again soon does not help.
    #[error("the credential is not accepted: {0}")]
    Refused(String),
    /// It could not be got just now.
    #[error("no access token could be obtained: {0}")]
    Unavailable(String),
}

/// A source of access tokens for the feed. It is asked before each connection.
pub trait BearerSource: Send + Sync + 'static {
    /// An access token. `refused` is the one that the server did not accept just before, if there was one: it has expired, or
    /// it was revoked, or it lacks the role.
    fn bearer<'a>(&'a self, refused: Option<&'a str>) -> BearerFuture<'a>;
}

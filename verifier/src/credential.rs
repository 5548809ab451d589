//! How a verifier proves to the server that it may watch: an access token with role `verifier` or `admin`.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

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
    #[error("no access token could be got: {0}")]
    Unavailable(String),
}

/// A source of access tokens for the feed. It is asked before each connection.
pub trait BearerSource: Send + Sync + 'static {
    /// An access token. `refused` is the one that the server did not accept just before, if there was one: it has expired, or
    /// it was revoked, or it lacks the role.
    fn bearer<'a>(&'a self, refused: Option<&'a str>) -> BearerFuture<'a>;
}

/// The credential of a verifier. `Debug` does not show it.
#[derive(Clone)]
pub struct Credential(Arc<dyn BearerSource>);

impl Credential {
    /// One access token, until it expires. For tests, and for tokens that another process renews by a restart.
    pub fn access_token(token: impl Into<String>) -> Self {
        Self::source(StaticToken(token.into()))
    }

    /// Asks `fetch` for an access token before each connection, such as a read of a file that another process renews.
    pub fn fetch<F, R>(fetch: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<String, CredentialError>> + Send + 'static,
    {
        Self::source(Fetch(fetch))
    }

    /// Asks a [`BearerSource`].
    pub fn source(source: impl BearerSource) -> Self {
        Self(Arc::new(source))
    }

    pub(crate) async fn bearer(&self, refused: Option<&str>) -> Result<String, CredentialError> {
        self.0.bearer(refused).await
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(…)")
    }
}

struct StaticToken(String);

impl BearerSource for StaticToken {
    fn bearer<'a>(&'a self, _refused: Option<&'a str>) -> BearerFuture<'a> {
        Box::pin(async { Ok(self.0.clone()) })
    }
}

struct Fetch<F>(F);

impl<F, R> BearerSource for Fetch<F>
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = Result<String, CredentialError>> + Send + 'static,
{
    fn bearer<'a>(&'a self, _refused: Option<&'a str>) -> BearerFuture<'a> {
        Box::pin((self.0)())
    }
}

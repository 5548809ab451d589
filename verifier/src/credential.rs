//! How a verifier proves to the server that it may watch: an access token with role `verifier` or `admin`.

use std::{fmt, future::Future, sync::Arc};

use crate::{
    endpoint::{self, ConnectError},
    login::PasswordLogin,
    service_key::ServiceKey,
    source::{BearerFuture, BearerSource, CredentialError},
};

/// The credential of a verifier. `Debug` does not show it.
#[derive(Clone)]
pub struct Credential(Arc<dyn BearerSource>);

impl Credential {
    /// One access token, until it expires. For tests, and for tokens that another process renews by a restart.
    pub fn access_token(token: impl Into<String>) -> Self {
        Self::source(StaticToken(token.into()))
    }

    /// A key (`csk_…`) of a service account with role `verifier`, at the server of that endpoint. Each connection gets a new access token for
    /// it, and another one before that token expires.
    ///
    /// # Errors
    /// [`ConnectError::Endpoint`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn service_key(endpoint: &str, key: impl Into<String>) -> Result<Self, ConnectError> {
        let channel = endpoint::watched(endpoint::parse(endpoint)?).connect_lazy();
        Ok(Self::source(ServiceKey::new(channel, key.into())))
    }

    /// The password of a user with role `verifier`, at the server of that endpoint. It logs in once, and again when its session has ended.
    ///
    /// # Errors
    /// [`ConnectError::Endpoint`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn login(
        endpoint: &str,
        email: impl Into<String>,
        password: impl Into<String>,
    ) -> Result<Self, ConnectError> {
        let channel = endpoint::watched(endpoint::parse(endpoint)?).connect_lazy();
        let login = PasswordLogin::new(channel, email.into(), password.into());
        Ok(Self::source(login))
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

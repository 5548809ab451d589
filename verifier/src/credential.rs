//! How a verifier proves to the server that it may watch: an access token with role `verifier` or `admin`, or a client certificate.

use std::{fmt, future::Future, path::PathBuf, sync::Arc};

use crate::{
    endpoint::{ConnectError, IntoEndpoint, watched},
    issued_token::{IssuedToken, Proof},
    login::PasswordLogin,
    source::{BearerFuture, BearerSource, CredentialError},
};

/// The credential of a verifier. `Debug` does not show it.
#[derive(Clone)]
pub struct Credential(Kind);

#[derive(Clone)]
enum Kind {
    /// An access token for each connection.
    Tokens(Arc<dyn BearerSource>),
    /// The connection itself.
    Certificate,
}

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
    pub fn service_key(
        endpoint: impl IntoEndpoint,
        key: impl Into<String>,
    ) -> Result<Self, ConnectError> {
        Self::issued(endpoint, Proof::Key(key.into()))
    }

    /// A file with a JWT of an issuer that the server trusts, at the server of that endpoint: a projected token of Kubernetes, a JWT-SVID of
    /// SPIFFE. The service account bound to it needs the role `verifier`. The file is read for each access token, because the platform
    /// renews it; while it cannot be read, the feed counts as interrupted. At most 16 KiB.
    ///
    /// # Errors
    /// [`ConnectError::Endpoint`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn assertion_file(
        endpoint: impl IntoEndpoint,
        path: impl Into<PathBuf>,
    ) -> Result<Self, ConnectError> {
        Self::issued(endpoint, Proof::AssertionFile(path.into()))
    }

    fn issued(endpoint: impl IntoEndpoint, proof: Proof) -> Result<Self, ConnectError> {
        let channel = watched(endpoint.into_endpoint()?).connect_lazy();
        Ok(Self::source(IssuedToken::new(channel, proof)))
    }

    /// No access token: the client certificate of the endpoint that the verifier connects to. The server knows its name from
    /// `COUNTERSIGN_TLS_VERIFIERS`.
    pub const fn client_certificate() -> Self {
        Self(Kind::Certificate)
    }

    /// The password of a user with role `verifier`, at the server of that endpoint. It logs in once, and again when its session has ended.
    ///
    /// # Errors
    /// [`ConnectError::Endpoint`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn login(
        endpoint: impl IntoEndpoint,
        email: impl Into<String>,
        password: impl Into<String>,
    ) -> Result<Self, ConnectError> {
        let channel = watched(endpoint.into_endpoint()?).connect_lazy();
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
        Self(Kind::Tokens(Arc::new(source)))
    }

    /// An access token; `None`: the connection's certificate is the credential.
    pub(crate) async fn bearer(
        &self,
        refused: Option<&str>,
    ) -> Result<Option<String>, CredentialError> {
        match &self.0 {
            Kind::Tokens(source) => source.bearer(refused).await.map(Some),
            Kind::Certificate => Ok(None),
        }
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

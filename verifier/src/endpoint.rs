//! The server's address, and why it could not be connected to.

use std::time::Duration;

use tonic::transport::Endpoint;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A connection whose other end does not answer a ping for so long is closed.
const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// Why [`Verifier::connect`](crate::Verifier::connect) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The endpoint is not a URL, or its TLS cannot be set up.
    #[error("the endpoint cannot be used: {0}")]
    Endpoint(#[from] tonic::transport::Error),
    /// The server, or the source of the credential, refused: a matter of configuration.
    #[error("the verifier's credential is refused: {0}")]
    CredentialRefused(String),
    /// No complete snapshot came in time: an outage, or a server that is still starting.
    #[error("the feed of revocations could not be read in time: {0}")]
    Unavailable(String),
}

/// Where the server is: the text of a URL, such as `http://countersign:50051`, or an [`Endpoint`] of one's own, with other CA certificates
/// or a client certificate.
///
/// With the feature `tls`, a URL with `https://` is checked by the CA certificates of the system.
pub trait IntoEndpoint: sealed::Sealed {
    /// The endpoint.
    ///
    /// # Errors
    /// [`ConnectError::Endpoint`].
    fn into_endpoint(self) -> Result<Endpoint, ConnectError>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for &str {}
    impl Sealed for &String {}
    impl Sealed for String {}
    impl Sealed for tonic::transport::Endpoint {}
}

impl IntoEndpoint for &str {
    fn into_endpoint(self) -> Result<Endpoint, ConnectError> {
        parse(self)
    }
}

impl IntoEndpoint for &String {
    fn into_endpoint(self) -> Result<Endpoint, ConnectError> {
        parse(self)
    }
}

impl IntoEndpoint for String {
    fn into_endpoint(self) -> Result<Endpoint, ConnectError> {
        parse(&self)
    }
}

impl IntoEndpoint for Endpoint {
    fn into_endpoint(self) -> Result<Endpoint, ConnectError> {
        Ok(self)
    }
}

/// Reads an endpoint. One with `https://` is checked by the CA certificates of the system, where the feature `tls` is on.
fn parse(text: &str) -> Result<Endpoint, ConnectError> {
    let endpoint = Endpoint::from_shared(text.to_owned())?;
    #[cfg(feature = "tls")]
    if endpoint.uri().scheme_str() == Some("https") {
        let tls = tonic::transport::ClientTlsConfig::new().with_native_roots();
        return Ok(endpoint.tls_config(tls)?);
    }
    Ok(endpoint)
}

/// Notices a connection whose other end has gone without a word.
pub(crate) fn watched(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
}

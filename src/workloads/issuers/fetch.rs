//! Fetches a JWKS over HTTPS: bounded in size and time, without redirects, and only from addresses that the file permits.
//!
//! hyper speaks HTTP on a connection that is opened here, to the very address that was checked: a client that resolves the
//! name by itself could get another answer than the check (DNS rebinding). Each fetch has a connection of its own, and no
//! proxy variable of the environment is read.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{file::KeyUrl, jwks::MAX_JWKS_LENGTH, networks};

/// How long a fetch may take, from the name's resolution to the last byte.
const TIME: Duration = Duration::from_secs(5);
/// How long one address may take to answer, where a name has several.
const CONNECT_TIME: Duration = Duration::from_secs(2);
/// Most addresses that are tried.
const MAX_ADDRESSES: usize = 4;
/// Bytes of the response's headers.
const MAX_HEADER_LENGTH: usize = 16 * 1024;

/// Why a JWKS was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The name has no address.
    #[error("the host has no address: {0}")]
    Resolve(io::Error),
    /// No address of the name is permitted.
    #[error("{0} is neither public nor in a network of allow_networks")]
    Forbidden(IpAddr),
    /// No address answers.
    #[error("no connection: {0}")]
    Connect(io::Error),
    /// TLS fails; the certificate is not trusted, for instance.
    #[error("TLS: {0}")]
    Tls(io::Error),
    /// The answer is no HTTP/1.1.
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    /// Another answer than 200. Redirects are not followed.
    #[error("status {0} instead of 200; redirects are not followed")]
    Status(StatusCode),
    /// The body is compressed, which was not asked for.
    #[error("the answer is compressed")]
    Encoded,
    /// The body is longer than 512 KiB.
    #[error("the answer is longer than 512 KiB")]
    TooLong,
    /// The body breaks off.
    #[error("the response is incomplete")]
    Truncated,
    /// It took longer than 5 s.
    #[error("no complete answer within 5 s")]
    TooSlow,
}

/// Fetches one URL.
pub(super) struct Fetcher {
    from: KeyUrl,
    /// `None` for plain HTTP to the loopback.
    tls: Option<TlsConnector>,
}

impl Fetcher {
    /// A fetcher. `authorities` is the content of the `ca_file`, if there is one.
    ///
    /// # Errors
    /// `authorities` holds no certificate in PEM that can be used.
    pub(super) fn new(from: KeyUrl, authorities: Option<&[u8]>) -> Result<Self, String> {
        let is_plain = from.url.scheme_str() == Some("http");
        let tls = (!is_plain)
            .then(|| client_config(authorities))
            .transpose()?;
        Ok(Self {
            from,
            tls: tls.map(|config| TlsConnector::from(Arc::new(config))),
        })
    }

    /// The body of the answer.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub(super) async fn fetch(&self) -> Result<Bytes, FetchError> {
        timeout(TIME, self.fetch_in_any_time())
            .await
            .unwrap_or(Err(FetchError::TooSlow))
    }

    async fn fetch_in_any_time(&self) -> Result<Bytes, FetchError> {
        let url = &self.from.url;
        let host = url.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let stream = self.connect(host).await?;
        let Some(tls) = &self.tls else {
            return self.get(stream).await;
        };
        let invalid = |error| FetchError::Tls(io::Error::new(io::ErrorKind::InvalidInput, error));
        let name = ServerName::try_from(host.to_owned()).map_err(invalid)?;
        let stream = tls.connect(name, stream).await.map_err(FetchError::Tls)?;
        self.get(stream).await
    }

    /// Connects to one of the permitted addresses of `host`.
    async fn connect(&self, host: &str) -> Result<TcpStream, FetchError> {
        let default_port = if self.tls.is_some() { 443 } else { 80 };
        let port = self.from.url.port_u16().unwrap_or(default_port);
        let resolved: Vec<SocketAddr> = lookup_host((host, port))
            .await
            .map_err(FetchError::Resolve)?
            .collect();
        let permitted =
            |address: &&SocketAddr| networks::permits(address.ip(), &self.from.allow_networks);
        let mut failure = match resolved.first() {
            Some(address) => FetchError::Forbidden(address.ip()),
            None => FetchError::Resolve(io::ErrorKind::NotFound.into()),
        };
        for address in resolved.iter().filter(permitted).take(MAX_ADDRESSES) {
            match timeout(CONNECT_TIME, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failure = FetchError::Connect(error),
                Err(_) => failure = FetchError::Connect(io::ErrorKind::TimedOut.into()),
            }
        }
        Err(failure)
    }

    async fn get(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Bytes, FetchError> {
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEADER_LENGTH)
            .handshake(TokioIo::new(stream))
            .await?;
        // Aborted when the set is dropped, so that nothing outlives the fetch.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let response = sender.send_request(self.request()).await?;
        body(response).await
    }

    fn request(&self) -> Request<Empty<Bytes>> {
        let url = &self.from.url;
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = path.parse().unwrap_or_default();
        let headers = request.headers_mut();
        let authority = url.authority().map_or("", |authority| authority.as_str());
        if let Ok(host) = authority.parse() {
            headers.insert(header::HOST, host);
        }
        let accept = "application/json, application/jwk-set+json";
        headers.insert(header::ACCEPT, header::HeaderValue::from_static(accept));
        let agent = concat!("countersign/", env!("CARGO_PKG_VERSION"));
        headers.insert(header::USER_AGENT, header::HeaderValue::from_static(agent));
        request
    }
}

async fn body(response: Response<Incoming>) -> Result<Bytes, FetchError> {
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    let encoding = response.headers().get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding != "identity") {
        return Err(FetchError::Encoded);
    }
    let body = Limited::new(response.into_body(), MAX_JWKS_LENGTH);
    match body.collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(FetchError::TooLong),
        Err(_) => Err(FetchError::Truncated),
    }
}

fn client_config(authorities: Option<&[u8]>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|_| "is not a PEM file".to_owned())?;
                roots
                    .add(certificate)
                    .map_err(|_| "holds a certificate that cannot be read".to_owned())?;
            }
            if roots.is_empty() {
                return Err("holds no certificate".to_owned());
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

//! What the files make: the TLS configurations of the two ports.

use std::{fmt, path::PathBuf, sync::Arc};

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::NoServerSessionStorage,
    sign::SingleCertAndKey,
};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{
    TlsError,
    clients::ClientAuthorities,
    pair::{Pair, PairFiles},
};
use crate::{
    clock::Timestamp,
    config::{TlsFiles, read_regular},
};

/// The contents of the files. The private key is wiped when this is dropped, and `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Contents {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    authorities: Option<Vec<u8>>,
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Contents")
    }
}

impl Contents {
    /// Reads the files. It blocks.
    pub(super) fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let read = |variable, path: &PathBuf| {
            let contents = read_regular(path);
            contents
                .map_err(|error| TlsError::new(variable, path, format!("cannot be read: {error}")))
        };
        let clients = files.clients.as_ref();
        Ok(Self {
            certificate: read("COUNTERSIGN_TLS_CERT_FILE", &files.certificate)?,
            key: Zeroizing::new(read("COUNTERSIGN_TLS_KEY_FILE", &files.key)?),
            authorities: clients
                .map(|clients| read("COUNTERSIGN_TLS_CLIENT_CA_FILE", &clients.authorities))
                .transpose()?,
        })
    }

    /// Whether both name the same authorities for clients.
    pub(super) fn has_authorities_of(&self, other: &Self) -> bool {
        self.authorities == other.authorities
    }
}

/// Both ports' configurations, from one reading of the files.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    /// For gRPC: ALPN `h2`.
    pub(super) grpc: Arc<ServerConfig>,
    /// For HTTP: ALPN `http/1.1`, and no client certificates: its documents are public, and probes and Prometheus have none.
    pub(super) http: Arc<ServerConfig>,
    /// When the server's certificate expires.
    pub(super) not_after: Timestamp,
    /// When the first authority for clients expires.
    pub(super) authorities_not_after: Option<Timestamp>,
    /// Cancelled when the authorities for clients are replaced: connections that showed a certificate end then.
    pub(super) authorities_replaced: CancellationToken,
}

impl Loaded {
    /// Checks the contents of the files and makes the configurations. Returns what will not work everywhere, too.
    pub(super) fn new(
        files: &TlsFiles,
        contents: &Contents,
        authorities_replaced: CancellationToken,
        now: Timestamp,
    ) -> Result<(Self, Vec<&'static str>), TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let read = PairFiles {
            certificate: (&files.certificate, &contents.certificate),
            key: (&files.key, &contents.key),
        };
        let pair = Pair::read(read, &provider, now)?;
        let clients = match (&files.clients, &contents.authorities) {
            (Some(clients), Some(pem)) => Some(ClientAuthorities::read(
                (&clients.authorities, pem),
                clients.required,
                Arc::clone(&provider),
            )?),
            _ => None,
        };
        let loaded = Self {
            grpc: Arc::new(config(&pair, clients.as_ref(), b"h2", &provider)?),
            http: Arc::new(config(&pair, None, b"http/1.1", &provider)?),
            not_after: pair.not_after,
            authorities_not_after: clients.map(|clients| clients.not_after),
            authorities_replaced,
        };
        Ok((loaded, pair.warnings))
    }
}

fn config(
    pair: &Pair,
    clients: Option<&ClientAuthorities>,
    protocol: &[u8],
    provider: &Arc<CryptoProvider>,
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::new("COUNTERSIGN_TLS", "rustls".as_ref(), error.to_string()))?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(Arc::clone(&clients.verifier)),
        None => builder.with_no_client_auth(),
    };
    let resolver = SingleCertAndKey::from(Arc::clone(&pair.key));
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![protocol.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

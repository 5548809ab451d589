//! A server with TLS, certificate authorities and clients with certificates.

use std::{fs, net::SocketAddr, path::Path, sync::Arc};

use countersign::grpc::pb::{LoginRequest, auth_service_client::AuthServiceClient};
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};

use super::{Kind, PASSWORD, TestDatabase, TestServer};

/// What the server's certificates are for.
pub const HOST: &str = "countersign.example.org";

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate chain and its key, in PEM.
pub struct Certificate {
    pub pem: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    pub fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Certificate {
            pem,
            key: key.serialize_pem(),
        }
    }

    pub fn server(&self) -> Certificate {
        self.sign(HOST, |_| {})
    }

    pub fn client(&self) -> Certificate {
        self.sign("gateway.example.org", |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    /// What a client needs that trusts this authority and shows `own`.
    pub fn trusted_by(&self, own: Option<&Certificate>, protocol: &[u8]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = CertificateDer::pem_slice_iter(own.pem.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
                builder
                    .with_client_auth_cert(chain.map(Result::unwrap).collect(), key)
                    .unwrap()
            }
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    }
}

impl Certificate {
    pub fn write(&self, folder: &Path) {
        fs::write(folder.join("tls.key"), &self.key).unwrap();
        fs::write(folder.join("tls.crt"), &self.pem).unwrap();
    }

    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()
    }
}

/// A server with TLS, and its files.
pub struct TlsServer {
    pub server: TestServer,
    pub authority: Authority,
    pub folder: TempDir,
}

impl TlsServer {
    pub async fn start() -> Self {
        Self::start_with(None, &[]).await
    }

    /// With an authority for clients, too.
    pub async fn start_with(clients: Option<&Authority>, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("servers");
        authority.server().write(folder.path());
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (certificate, key, ca) = (path("tls.crt"), path("tls.key"), path("ca.crt"));
        let mut variables = vec![
            ("COUNTERSIGN_TLS", "on"),
            ("COUNTERSIGN_TLS_CERT_FILE", certificate.as_str()),
            ("COUNTERSIGN_TLS_KEY_FILE", key.as_str()),
        ];
        if let Some(clients) = clients {
            fs::write(&ca, &clients.pem).unwrap();
            variables.push(("COUNTERSIGN_TLS_CLIENT_CA_FILE", &ca));
        }
        variables.extend_from_slice(settings);
        let database = TestDatabase::create(Kind::Sqlite).await;
        let server = TestServer::start_with(&database, &variables).await;
        Self {
            server,
            authority,
            folder,
        }
    }

    pub fn grpc(&self, own: Option<&Certificate>) -> Arc<ClientConfig> {
        self.authority.trusted_by(own, b"h2")
    }

    pub async fn metrics(&self) -> String {
        let config = self.authority.trusted_by(None, b"http/1.1");
        get(self.server.http(), config, "/metrics").await
    }

    pub async fn metric(&self, name: &str) -> i64 {
        let text = self.metrics().await;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}: {text}"))
            .parse()
            .unwrap()
    }

    pub async fn refused(&self, reason: &str) -> i64 {
        self.metric(&format!(
            "countersign_tls_handshakes_refused_total{{reason=\"{reason}\"}}"
        ))
        .await
    }
}

pub async fn handshake(
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(HOST).unwrap();
    TlsConnector::from(config).connect(name, stream).await
}

/// The certificate that the server shows.
pub async fn shown(address: SocketAddr, config: Arc<ClientConfig>) -> CertificateDer<'static> {
    let stream = handshake(address, config).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0]
        .clone()
        .into_owned()
}

pub async fn get(address: SocketAddr, config: Arc<ClientConfig>, path: &str) -> String {
    let mut stream = handshake(address, config).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    // The server closes the connection without close_notify after the last byte.
    let _ = stream.read_to_end(&mut text).await;
    String::from_utf8(text).unwrap()
}

pub async fn channel(
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> Result<Channel, tonic::transport::Error> {
    let connector = tower::service_fn(move |_| {
        let config = Arc::clone(&config);
        async move { handshake(address, config).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://countersign.example.org");
    endpoint.connect_with_connector(connector).await
}

pub async fn login(channel: &Channel) -> Result<(), tonic::Status> {
    let request = LoginRequest {
        email: "nobody@example.org".to_owned(),
        password: PASSWORD.to_owned(),
        ..LoginRequest::default()
    };
    AuthServiceClient::new(channel.clone())
        .login(request)
        .await
        .map(drop)
}

/// A call was answered: the address is unknown.
pub async fn assert_answered(channel: &Channel) {
    assert_eq!(
        login(channel).await.unwrap_err().code(),
        tonic::Code::Unauthenticated
    );
}

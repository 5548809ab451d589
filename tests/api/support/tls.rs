//! A server with TLS, certificate authorities and clients with certificates.

use std::{fs, net::SocketAddr, path::Path, sync::Arc};

use countersign::grpc::pb::{
    LoginRequest, RegisterRequest, ValidateTokenRequest, auth_service_client::AuthServiceClient,
};
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::{
    ALL_VERSIONS, ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion,
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

/// The client connection preface and an empty SETTINGS frame (RFC 9113 section 3.4).
pub const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

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
        self.sign_key(&KeyPair::generate().unwrap(), name, change)
    }

    /// Another certificate for the server, with the same key.
    pub fn sign_again(
        &self,
        of: &Certificate,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Certificate {
        self.sign_key(&KeyPair::from_pem(&of.key).unwrap(), HOST, change)
    }

    fn sign_key(
        &self,
        key: &KeyPair,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Certificate {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let pem = params.signed_by(key, &self.issuer).unwrap().pem();
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
        self.trusted_in(ALL_VERSIONS, own, protocol)
    }

    /// The same for a client that speaks only these versions. It remembers sessions, to resume them.
    pub fn trusted_in(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        own: Option<&Certificate>,
        protocol: &[u8],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
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
        let files = tls_variables(folder.path(), clients);
        let mut variables: Vec<_> = files
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
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
        value(&self.metrics().await, name)
    }

    pub async fn refused(&self, reason: &str) -> i64 {
        refused(&self.metrics().await, reason)
    }
}

/// The variables of a server with the certificate, the key and, if it has `clients`, the authority in this folder. Writes
/// the last.
pub fn tls_variables(folder: &Path, clients: Option<&Authority>) -> Vec<(&'static str, String)> {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let mut variables = vec![
        ("COUNTERSIGN_TLS", "on".to_owned()),
        ("COUNTERSIGN_TLS_CERT_FILE", path("tls.crt")),
        ("COUNTERSIGN_TLS_KEY_FILE", path("tls.key")),
    ];
    if let Some(clients) = clients {
        fs::write(path("ca.crt"), &clients.pem).unwrap();
        variables.push(("COUNTERSIGN_TLS_CLIENT_CA_FILE", path("ca.crt")));
    }
    variables
}

/// The value of a metric.
pub fn value(metrics: &str, name: &str) -> i64 {
    let mut lines = metrics.lines();
    let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}: {metrics}"))
        .parse()
        .unwrap()
}

/// How many handshakes were refused for this reason.
pub fn refused(metrics: &str, reason: &str) -> i64 {
    let name = "countersign_tls_handshakes_refused_total";
    value(metrics, &format!("{name}{{reason=\"{reason}\"}}"))
}

pub async fn handshake(
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    // As tonic's own channel. Otherwise Nagle's algorithm holds back a second frame until the peer acknowledges the first, up to 40 ms.
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(HOST).unwrap();
    TlsConnector::from(config).connect(name, stream).await
}

/// What a client reads that the server refuses after its part of the handshake.
pub async fn refusal(address: SocketAddr, config: Arc<ClientConfig>) -> String {
    let mut stream = match handshake(address, config).await {
        Ok(stream) => stream,
        Err(error) => return error.to_string(),
    };
    match stream.read(&mut [0; 64]).await {
        Ok(read) => format!("{read} bytes"),
        Err(error) => error.to_string(),
    }
}

/// The bytes with which a client begins.
pub fn client_hello(config: Arc<ClientConfig>) -> Vec<u8> {
    let name = ServerName::try_from(HOST).unwrap();
    let mut bytes = Vec::new();
    let mut client = ClientConnection::new(config, name).unwrap();
    client.write_tls(&mut bytes).unwrap();
    bytes
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

/// Registers a user and logs in. Returns the access token.
pub async fn signed_in(channel: &Channel) -> String {
    let mut client = AuthServiceClient::new(channel.clone());
    let (email, password) = ("ada@example.org".to_owned(), PASSWORD.to_owned());
    let user = RegisterRequest {
        email: email.clone(),
        password: password.clone(),
        ..RegisterRequest::default()
    };
    client.register(user).await.unwrap();
    let login = LoginRequest {
        email,
        password,
        ..LoginRequest::default()
    };
    let answer = client.login(login).await.unwrap().into_inner();
    answer.tokens.unwrap().access_token
}

pub async fn validate(channel: &Channel, access_token: &str) -> Result<(), tonic::Status> {
    let request = ValidateTokenRequest {
        access_token: access_token.to_owned(),
        ..ValidateTokenRequest::default()
    };
    AuthServiceClient::new(channel.clone())
        .validate_token(request)
        .await
        .map(drop)
}

//! TLS on both ports: what clients get, what is refused, and how certificates are replaced.

use std::{fs, net::SocketAddr, path::Path, sync::Arc};

use countersign::grpc::pb::{LoginRequest, auth_service_client::AuthServiceClient};
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore,
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

use crate::support::{Kind, PASSWORD, TestDatabase, TestServer, eventually};

const HOST: &str = "countersign.example.org";

/// A certificate authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate chain and its key, in PEM.
struct Certificate {
    pem: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Self {
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

    fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Certificate {
            pem,
            key: key.serialize_pem(),
        }
    }

    fn server(&self) -> Certificate {
        self.sign(HOST, |_| {})
    }

    fn client(&self) -> Certificate {
        self.sign("gateway.example.org", |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    /// What a client needs that trusts this authority and shows `own`.
    fn trusted_by(&self, own: Option<&Certificate>, protocol: &[u8]) -> Arc<ClientConfig> {
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
    fn write(&self, folder: &Path) {
        fs::write(folder.join("tls.key"), &self.key).unwrap();
        fs::write(folder.join("tls.crt"), &self.pem).unwrap();
    }

    fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()
    }
}

/// A server with TLS, and its files.
struct Fixture {
    server: TestServer,
    authority: Authority,
    folder: TempDir,
}

impl Fixture {
    async fn start() -> Self {
        Self::start_with(None, &[]).await
    }

    /// With an authority for clients, too.
    async fn start_with(clients: Option<&Authority>, settings: &[(&str, &str)]) -> Self {
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

    fn grpc(&self, own: Option<&Certificate>) -> Arc<ClientConfig> {
        self.authority.trusted_by(own, b"h2")
    }

    async fn metrics(&self) -> String {
        let config = self.authority.trusted_by(None, b"http/1.1");
        get(self.server.http(), config, "/metrics").await
    }

    async fn metric(&self, name: &str) -> i64 {
        let text = self.metrics().await;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}: {text}"))
            .parse()
            .unwrap()
    }

    async fn refused(&self, reason: &str) -> i64 {
        self.metric(&format!(
            "countersign_tls_handshakes_refused_total{{reason=\"{reason}\"}}"
        ))
        .await
    }
}

async fn handshake(
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(HOST).unwrap();
    TlsConnector::from(config).connect(name, stream).await
}

/// The certificate that the server shows.
async fn shown(address: SocketAddr, config: Arc<ClientConfig>) -> CertificateDer<'static> {
    let stream = handshake(address, config).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0]
        .clone()
        .into_owned()
}

/// What a client reads that the server refuses after its part of the handshake.
async fn refusal(address: SocketAddr, config: Arc<ClientConfig>) -> String {
    let mut stream = match handshake(address, config).await {
        Ok(stream) => stream,
        Err(error) => return error.to_string(),
    };
    match stream.read(&mut [0; 64]).await {
        Ok(read) => format!("{read} bytes"),
        Err(error) => error.to_string(),
    }
}

async fn get(address: SocketAddr, config: Arc<ClientConfig>, path: &str) -> String {
    let mut stream = handshake(address, config).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    // The server closes the connection without close_notify after the last byte.
    let _ = stream.read_to_end(&mut text).await;
    String::from_utf8(text).unwrap()
}

async fn channel(
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

async fn login(channel: &Channel) -> Result<(), tonic::Status> {
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
async fn assert_answered(channel: &Channel) {
    assert_eq!(
        login(channel).await.unwrap_err().code(),
        tonic::Code::Unauthenticated
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ports_speak_tls_without_resumption() {
    let fixture = Fixture::start().await;
    let config = fixture.grpc(None);
    assert_answered(
        &channel(fixture.server.address, Arc::clone(&config))
            .await
            .unwrap(),
    )
    .await;
    let health = get(
        fixture.server.http(),
        fixture.authority.trusted_by(None, b"http/1.1"),
        "/healthz",
    )
    .await;
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    for _ in 0..2 {
        let stream = handshake(fixture.server.address, Arc::clone(&config))
            .await
            .unwrap();
        let (_, connection) = stream.get_ref();
        assert_eq!(connection.alpn_protocol(), Some(b"h2".as_slice()));
        assert_eq!(connection.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_pair_is_taken_and_open_connections_go_on() {
    let fixture = Fixture::start().await;
    let (address, config) = (fixture.server.address, fixture.grpc(None));
    let before = shown(address, Arc::clone(&config)).await;
    let open = channel(address, Arc::clone(&config)).await.unwrap();
    assert_answered(&open).await;
    let next = fixture.authority.server();
    next.write(fixture.folder.path());
    eventually("the new certificate is shown", async || {
        shown(address, Arc::clone(&config)).await == next.der()
    })
    .await;
    assert_ne!(before, next.der());
    assert_answered(&open).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_written_or_mismatched_pair_is_refused_and_the_old_one_stays() {
    let fixture = Fixture::start().await;
    let (address, config) = (fixture.server.address, fixture.grpc(None));
    let before = shown(address, Arc::clone(&config)).await;
    let failed = "countersign_tls_last_failed_reload";
    assert_eq!(fixture.metric(failed).await, 0);
    let next = fixture.authority.server();
    // Only the certificate: its key is still the old one.
    fs::write(fixture.folder.path().join("tls.crt"), &next.pem).unwrap();
    eventually("the failure is reported", async || {
        fixture.metric(failed).await > 0
    })
    .await;
    assert_eq!(shown(address, Arc::clone(&config)).await, before);
    fs::write(fixture.folder.path().join("tls.key"), &next.key[..40]).unwrap();
    fs::write(fixture.folder.path().join("tls.key"), &next.key).unwrap();
    eventually("the whole pair is taken", async || {
        shown(address, Arc::clone(&config)).await == next.der()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_required_client_certificate_is_checked_and_refusals_are_told_and_counted() {
    let (clients, strangers) = (Authority::new("clients"), Authority::new("strangers"));
    let settings = [("COUNTERSIGN_TLS_CLIENT_AUTH", "required")];
    let fixture = Fixture::start_with(Some(&clients), &settings).await;
    let address = fixture.server.address;
    let good = clients.client();
    assert_answered(&channel(address, fixture.grpc(Some(&good))).await.unwrap()).await;

    let expired = clients.sign("gateway.example.org", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let for_servers = clients.sign("gateway.example.org", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let stranger = strangers.client();
    for (own, reason, alert) in [
        (None, "no_certificate", "CertificateRequired"),
        (Some(&stranger), "unknown_issuer", "UnknownCA"),
        (Some(&expired), "expired", "CertificateExpired"),
        (Some(&for_servers), "purpose", "UnsupportedCertificate"),
    ] {
        let told = refusal(address, fixture.grpc(own)).await;
        assert!(told.contains(alert), "{reason}: {told}");
        assert_eq!(fixture.refused(reason).await, 1, "{reason}");
    }
    // The HTTP port asks for none: its documents are public.
    assert!(fixture.metric("countersign_tls_client_ca_not_after").await > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_optional_client_certificate_may_be_missing_but_not_wrong() {
    let (clients, strangers) = (Authority::new("clients"), Authority::new("strangers"));
    let fixture = Fixture::start_with(Some(&clients), &[]).await;
    let address = fixture.server.address;
    assert_answered(&channel(address, fixture.grpc(None)).await.unwrap()).await;
    assert_answered(
        &channel(address, fixture.grpc(Some(&clients.client())))
            .await
            .unwrap(),
    )
    .await;
    let told = refusal(address, fixture.grpc(Some(&strangers.client()))).await;
    assert!(told.contains("UnknownCA"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_a_replaced_authority_end() {
    let (before, after) = (Authority::new("before"), Authority::new("after"));
    let fixture = Fixture::start_with(Some(&before), &[]).await;
    let address = fixture.server.address;
    let own = before.client();
    let mut with_certificate = handshake(address, fixture.grpc(Some(&own))).await.unwrap();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    with_certificate.write_all(preface).await.unwrap();
    let without = channel(address, fixture.grpc(None)).await.unwrap();
    assert_answered(&without).await;
    fs::write(fixture.folder.path().join("ca.crt"), &after.pem).unwrap();
    let mut bytes = Vec::new();
    let ended = tokio::time::timeout(
        crate::support::PATIENCE,
        with_certificate.read_to_end(&mut bytes),
    );
    let _ = ended.await.expect("the connection ends");
    // GOAWAY is frame type 7 (RFC 9113 section 6.8).
    assert!(
        bytes.windows(5).any(|header| header == [0, 0, 8, 7, 0]),
        "{bytes:?}"
    );
    assert_answered(&without).await;
    assert!(
        refusal(address, fixture.grpc(Some(&own)))
            .await
            .contains("UnknownCA")
    );
    assert_answered(
        &channel(address, fixture.grpc(Some(&after.client())))
            .await
            .unwrap(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_text_and_handshakes_that_stop_are_counted() {
    let fixture = Fixture::start_with(None, &[("COUNTERSIGN_HANDSHAKE_TIMEOUT", "500ms")]).await;
    let address = fixture.server.address;
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    eventually("plain text is counted", async || {
        fixture.refused("plaintext").await == 1
    })
    .await;
    let silent = TcpStream::connect(address).await.unwrap();
    eventually("a silent client is counted", async || {
        fixture.refused("timed_out").await == 1
    })
    .await;
    drop(silent);
    drop(TcpStream::connect(address).await.unwrap());
    eventually("a client that leaves is counted", async || {
        fixture.refused("closed").await == 1
    })
    .await;
    let no_protocol = fixture.authority.trusted_by(None, b"http/1.1");
    assert!(
        refusal(address, no_protocol)
            .await
            .contains("NoApplicationProtocol")
    );
    assert_eq!(fixture.refused("no_alpn").await, 1);
}

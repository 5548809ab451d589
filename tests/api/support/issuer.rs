//! An issuer of assertions: its keys, its JWKS as a file or behind a URL, and the file that trusts it.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::default_provider,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use super::{
    forge::{Key, message},
    tls::Authority,
};

/// The audience that every issuer of a test is trusted for.
pub const AUDIENCE: &str = "countersign";

/// A platform that signs assertions with one key.
pub struct TestIssuer {
    pub key: Key,
    pub algorithm: &'static str,
    pub kid: String,
    pub iss: Option<&'static str>,
}

impl TestIssuer {
    /// An issuer with a new key.
    pub fn new(algorithm: &'static str, kid: &str, iss: Option<&'static str>) -> Self {
        Self {
            key: Key::of_an_attacker(algorithm),
            algorithm,
            kid: kid.to_owned(),
            iss,
        }
    }

    /// Its public key, as its JWKS has it.
    pub fn jwk(&self) -> Value {
        let mut jwk = self.key.jwk();
        jwk["kid"] = json!(self.kid);
        jwk
    }

    /// Its JWKS.
    pub fn jwks(&self) -> String {
        json!({ "keys": [self.jwk()] }).to_string()
    }

    /// The claims of an assertion that is good from `now` for ten minutes.
    pub fn claims(&self, subject: &str, now: i64) -> Value {
        let mut claims =
            json!({"sub": subject, "aud": [AUDIENCE], "iat": now, "nbf": now, "exp": now + 600});
        if let Some(iss) = self.iss {
            claims["iss"] = json!(iss);
        }
        claims
    }

    /// An assertion with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": self.algorithm, "kid": self.kid});
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// An assertion of this text.
    pub fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = message(header.as_bytes(), claims.as_bytes());
        let signature = self.key.sign(self.algorithm, message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// A folder with the file of trusted issuers and what it names.
pub struct IssuerFiles {
    pub folder: TempDir,
    /// The path of the file.
    pub toml: String,
}

impl IssuerFiles {
    pub fn new(text: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let toml = folder.path().join("issuers.toml");
        let files = Self {
            toml: toml.to_str().unwrap().to_owned(),
            folder,
        };
        files.write("issuers.toml", text);
        files
    }

    /// Replaces a file as Kubernetes does: in one step. `FOLDER` in the text is the folder.
    pub fn write(&self, name: &str, text: &str) {
        let folder = self.folder.path().to_str().unwrap();
        let next = self.path("next");
        fs::write(&next, text.replace("FOLDER", folder)).unwrap();
        fs::rename(next, self.path(name)).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Serves a JWKS over HTTP on the loopback, and counts the requests.
pub struct JwksServer {
    pub address: SocketAddr,
    answer: Arc<Mutex<Vec<u8>>>,
    requests: Arc<AtomicUsize>,
    running: JoinHandle<()>,
}

impl JwksServer {
    pub async fn start(jwks: &str) -> Self {
        Self::listen(jwks, None).await
    }

    /// The same over TLS, with a certificate for the loopback address.
    pub async fn start_tls(jwks: &str, authority: &Authority) -> Self {
        let own = authority.sign("127.0.0.1", |_| {});
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![own.der()],
                PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap(),
            )
            .unwrap();
        Self::listen(jwks, Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn listen(jwks: &str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(Mutex::new(ok(jwks)));
        let requests = Arc::new(AtomicUsize::new(0));
        let (shared, counter) = (Arc::clone(&answer), Arc::clone(&requests));
        let running = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                let bytes = shared.lock().unwrap().clone();
                let tls = tls.clone();
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, bytes).await,
                        // A client that does not trust the certificate goes away.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, bytes).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            address,
            answer,
            requests,
            running,
        }
    }

    /// Serves another JWKS from now on.
    pub fn serve(&self, jwks: &str) {
        self.answer_with(ok(jwks));
    }

    /// Answers with these bytes from now on; with none, it is silent.
    pub fn answer_with(&self, bytes: impl Into<Vec<u8>>) {
        *self.answer.lock().unwrap() = bytes.into();
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    pub fn url(&self) -> String {
        format!("http://{}/jwks", self.address)
    }
}

impl Drop for JwksServer {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn ok(jwks: &str) -> Vec<u8> {
    let length = jwks.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{jwks}").into_bytes()
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: Vec<u8>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut bytes = [0; 1024];
        match stream.read(&mut bytes).await {
            Ok(read @ 1..) => request.extend_from_slice(&bytes[..read]),
            _ => return,
        }
    }
    let _ = stream.write_all(&answer).await;
    // A silent server keeps the connection open until the client has had enough.
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
}

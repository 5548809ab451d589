//! PostgreSQL connections: TLS by rustls, `sslmode` with libpq's meaning, bounds on every statement.

use std::{sync::Arc, time::Duration};

use diesel::{ConnectionError, ConnectionResult};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio_postgres::{Config, NoTls, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::StoreError;
use crate::secret::Secret;

/// No statement of ours is slow: what takes longer is stuck, and its caller is owed an answer.
const STATEMENT_TIMEOUT: Duration = Duration::from_millis(1_500);

/// No lock of ours is held long either. A row that somebody else holds fails its statement soon enough for a batch
/// to be tried again one by one (see `rotations`).
const LOCK_TIMEOUT: Duration = Duration::from_millis(600);

/// A transaction whose program went away lets go of its locks after this long, and can no longer commit a
/// revocation that readers have stopped waiting for (see `revocation::checkpoints`).
const IDLE_IN_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(2);

/// Knows how to open one connection.
#[derive(Clone)]
pub(super) struct Connector {
    config: Config,
    tls: Option<MakeRustlsConnect>,
}

impl Connector {
    /// Reads a `postgres://` URL. `sslmode` means what it means to libpq: `disable`, `prefer` and
    /// `require` do not look at the certificate, `verify-full` checks it against the system's roots.
    pub(super) fn parse(url: &Secret<String>) -> Result<Self, StoreError> {
        let (plain_url, verify) = take_verify_full(url.expose());
        let mut config: Config = plain_url
            .parse()
            .map_err(|error| StoreError::Query(format!("bad database URL: {error}")))?;
        config
            .application_name("countersign")
            .connect_timeout(Duration::from_millis(900))
            .keepalives_idle(Duration::from_secs(15))
            .tcp_user_timeout(Duration::from_secs(5));
        // Set as a start-up option: it costs no round trip of its own.
        let options = config.get_options().unwrap_or_default();
        let options = format!(
            "{options} -c statement_timeout={} -c lock_timeout={} -c idle_in_transaction_session_timeout={}",
            STATEMENT_TIMEOUT.as_millis(),
            LOCK_TIMEOUT.as_millis(),
            IDLE_IN_TRANSACTION_TIMEOUT.as_millis()
        );
        config.options(options.trim());
        let tls = match config.get_ssl_mode() {
            SslMode::Disable => None,
            _ => Some(MakeRustlsConnect::new(tls_config(verify)?)),
        };
        Ok(Self { config, tls })
    }

    /// The same under another name in the server's list of connections.
    pub(super) fn named(mut self, application: &str) -> Self {
        self.config.application_name(application);
        self
    }

    /// Opens a connection.
    pub(super) async fn connect(self) -> ConnectionResult<AsyncPgConnection> {
        let bad = |error: tokio_postgres::Error| {
            ConnectionError::BadConnection(match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            })
        };
        match self.tls {
            Some(tls) => {
                let (client, connection) = self.config.connect(tls).await.map_err(bad)?;
                AsyncPgConnection::try_from_client_and_connection(client, connection).await
            }
            None => {
                let (client, connection) = self.config.connect(NoTls).await.map_err(bad)?;
                AsyncPgConnection::try_from_client_and_connection(client, connection).await
            }
        }
    }
}

/// Takes a failure on a connection that no longer answers for what it is: a database that went away. Its
/// farewell may be in any language, so the words alone do not tell.
pub(super) async fn judge<T>(
    result: Result<T, StoreError>,
    connection: &mut AsyncPgConnection,
) -> Result<T, StoreError> {
    match result {
        Err(StoreError::Query(message)) => match connection.batch_execute("SELECT 1").await {
            Ok(()) => Err(StoreError::Query(message)),
            Err(_) => Err(StoreError::Unavailable(message)),
        },
        result => result,
    }
}

/// `tokio-postgres` does not know `verify-full`: to it, that is `require` with a stricter verifier.
fn take_verify_full(url: &str) -> (String, bool) {
    let plain = url.replace("sslmode=verify-full", "sslmode=require");
    let verify = plain != url;
    (plain, verify)
}

fn tls_config(verify: bool) -> Result<ClientConfig, StoreError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| StoreError::Query(error.to_string()))?;
    if !verify {
        return Ok(builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth());
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Encrypts without asking who is there, as libpq does below `verify-ca`.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Connector, StoreError> {
        Connector::parse(&Secret::new(url.to_owned()))
    }

    #[test]
    fn sslmode_is_honoured() {
        assert!(
            parse("postgres://a@b/c?sslmode=disable")
                .unwrap()
                .tls
                .is_none()
        );
        let strict = parse("postgres://a@b/c?sslmode=verify-full").unwrap();
        assert!(strict.tls.is_some());
        assert_eq!(strict.config.get_ssl_mode(), SslMode::Require);
        assert!(parse("postgres://a@b/c?sslmode=bogus").is_err());
    }

    #[test]
    fn no_statement_and_no_transaction_can_hang() {
        let connector = parse("postgres://a@b/c?options=-c%20work_mem%3D8MB").unwrap();
        let options = connector.config.get_options().unwrap();
        for option in [
            "-c work_mem=8MB",
            "-c statement_timeout=1500",
            "-c lock_timeout=600",
            "-c idle_in_transaction_session_timeout=2000",
        ] {
            assert!(options.contains(option), "{options}");
        }
    }

    #[test]
    fn an_error_does_not_repeat_the_url() {
        let error = parse("postgres://a:hunter2@b/c?nonsense=hunter2")
            .err()
            .unwrap();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

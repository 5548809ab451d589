//! Sends a composed mail by SMTP, or writes it to a file.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, CertificateStore, Tls, TlsParameters},
    },
};
use tokio::time::timeout;

use super::MailError;
use crate::config::{MailRoute, MailSettings, SmtpServer, SmtpTls, read_regular};

/// How long one attempt may take. lettre's own time-out bounds the connection alone.
pub(super) const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Where mails go.
pub(super) enum Transport {
    Smtp(Box<AsyncSmtpTransport<Tokio1Executor>>),
    Folder(PathBuf),
    /// Mails are not sent.
    Off,
}

impl Transport {
    /// Prepares the way; nothing is opened yet.
    pub(super) fn new(settings: &MailSettings) -> Result<Self, MailError> {
        match &settings.route {
            MailRoute::Off => Ok(Self::Off),
            MailRoute::Folder(folder) => Ok(Self::Folder(folder.clone())),
            MailRoute::Smtp(server) => {
                let transport = smtp(server, settings.smtp_ca.as_deref())?;
                Ok(Self::Smtp(Box::new(transport)))
            }
        }
    }

    /// Sends a mail once. `id` names the file.
    pub(super) async fn send(&self, id: &str, message: Message) -> Result<(), MailError> {
        match self {
            Self::Smtp(transport) => {
                let sent = timeout(SEND_TIMEOUT, transport.send(message)).await;
                let sent =
                    sent.map_err(|_| MailError::Unreachable("no answer in time".to_owned()))?;
                sent.map(drop).map_err(|error| sorted(&error))
            }
            Self::Off => Ok(()),
            Self::Folder(folder) => write(folder, id, &message.formatted())
                .map_err(|error| MailError::Unreachable(format!("{}: {error}", folder.display()))),
        }
    }
}

/// Each mail has a connection of its own: a pooled one that the server has closed meanwhile would fail the first mail
/// after a quiet time.
fn smtp(
    server: &SmtpServer,
    authorities: Option<&Path>,
) -> Result<AsyncSmtpTransport<Tokio1Executor>, MailError> {
    let tls = match server.tls {
        SmtpTls::None => Tls::None,
        SmtpTls::StartTls => Tls::Required(tls_parameters(&server.host, authorities)?),
        SmtpTls::Implicit => Tls::Wrapper(tls_parameters(&server.host, authorities)?),
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&server.host)
        .port(server.port)
        .timeout(Some(SEND_TIMEOUT))
        .tls(tls);
    if let Some((user, password)) = &server.credentials {
        builder = builder.credentials(Credentials::new(user.clone(), password.expose().clone()));
    }
    Ok(builder.build())
}

fn tls_parameters(host: &str, authorities: Option<&Path>) -> Result<TlsParameters, MailError> {
    let mut builder = TlsParameters::builder(host.to_owned());
    if let Some(path) = authorities {
        let unusable = |error: &dyn std::fmt::Display| {
            MailError::Settings(format!(
                "COUNTERSIGN_SMTP_CA_FILE: cannot use {}: {error}",
                path.display()
            ))
        };
        let pem = read_regular(path).map_err(|error| unusable(&error))?;
        let certificate = Certificate::from_pem(&pem).map_err(|error| unusable(&error))?;
        builder = builder
            .certificate_store(CertificateStore::None)
            .add_root_certificate(certificate);
    }
    builder
        .build_rustls()
        .map_err(|error| MailError::Settings(format!("TLS for SMTP cannot be set up: {error}")))
}

/// By the code of the server's answer, never by its words.
fn sorted(error: &lettre::transport::smtp::Error) -> MailError {
    let text = match error.status() {
        // The text after the code is the server's, and may repeat the recipient.
        Some(code) => format!("code {code}"),
        None => error.to_string(),
    };
    if error.is_permanent() {
        MailError::Rejected(text)
    } else if error.is_transient() {
        MailError::Deferred(text)
    } else {
        MailError::Unreachable(text)
    }
}

/// Readable by nobody else: the mail may hold a token.
fn write(folder: &Path, id: &str, bytes: &[u8]) -> io::Result<()> {
    use io::Write as _;
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // Whoever watches the folder sees only whole files.
    let (part, whole) = (
        folder.join(format!("{id}.part")),
        folder.join(format!("{id}.eml")),
    );
    options.open(&part)?.write_all(bytes)?;
    fs::rename(part, whole)
}

//! Sends a composed mail by SMTP, or writes it to a file.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use lettre::{
    Message,
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, CertificateStore, TlsParameters},
    },
};

use super::{
    MailError,
    smtp::{Encryption, SmtpClient},
};
use crate::config::{MailRoute, MailSettings, SmtpServer, SmtpTls, read_regular};

/// Where mails go.
pub(super) enum Transport {
    Smtp(Box<SmtpClient>),
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
                let client = smtp(server, settings.smtp_ca.as_deref())?;
                Ok(Self::Smtp(Box::new(client)))
            }
        }
    }

    /// Sends a mail once. `id` names the file.
    pub(super) async fn send(&self, id: &str, message: &Message) -> Result<(), MailError> {
        match self {
            Self::Smtp(client) => client.send(message).await,
            Self::Off => Ok(()),
            Self::Folder(folder) => write(folder, id, &message.formatted())
                .map_err(|error| MailError::Unreachable(format!("{}: {error}", folder.display()))),
        }
    }
}

fn smtp(server: &SmtpServer, authorities: Option<&Path>) -> Result<SmtpClient, MailError> {
    let parameters = || tls_parameters(&server.host, authorities);
    Ok(SmtpClient {
        host: server.host.clone(),
        port: server.port,
        encryption: match server.tls {
            SmtpTls::None => Encryption::None,
            SmtpTls::StartTls => Encryption::StartTls(parameters()?),
            SmtpTls::Implicit => Encryption::Implicit(parameters()?),
        },
        credentials: server
            .credentials
            .as_ref()
            .map(|(user, password)| Credentials::new(user.clone(), password.expose().clone())),
    })
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

//! Hands one mail to the SMTP server. The steps are taken one by one, because what a failure means depends on the step.
//!
//! Before the recipient is named, a refusal concerns the service and not the mail: credentials, certificates, the sender. All
//! mails wait then. After the end of the content, the server may have accepted the mail even if its response is lost. lettre's own
//! transport does not distinguish these steps, and waits for the response to QUIT before it reports a mail as sent.
//!
//! Each mail has a connection of its own: a pooled one that the server has closed meanwhile would fail the first mail after a
//! quiet time.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use lettre::{
    Message,
    transport::smtp::{
        Error,
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, TlsParameters},
        commands::{Data, Mail, Rcpt},
        extension::{ClientId, Extension, MailBodyParameter, MailParameter},
    },
};
use tokio::{
    net::{UdpSocket, lookup_host},
    time::timeout,
};

use super::MailError;

/// How long all steps before the content may take. lettre's own time-out bounds the connection alone.
const SESSION_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the server may take to say that it has the mail. RFC 5321 section 4.5.3.2.6 asks for ten minutes, because the
/// mail is sent twice where the wait is too short; but the next mails wait as well.
const ACCEPTANCE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long one mail may take.
pub(super) const SEND_TIMEOUT: Duration =
    Duration::from_secs(SESSION_TIMEOUT.as_secs() + ACCEPTANCE_TIMEOUT.as_secs());
/// How long the server may take to answer QUIT. Nothing waits for that.
const QUIT_TIMEOUT: Duration = Duration::from_secs(5);
/// "Authentication required" (RFC 4954 section 6), or TLS (RFC 3207 section 4).
const NOT_AUTHENTICATED: u16 = 530;

/// How connections are encrypted.
pub(super) enum Encryption {
    /// Not at all.
    None,
    /// By STARTTLS, without which nothing is sent.
    StartTls(TlsParameters),
    /// From the first byte.
    Implicit(TlsParameters),
}

/// The way to an SMTP server.
pub(super) struct SmtpClient {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) encryption: Encryption,
    pub(super) credentials: Option<Credentials>,
}

impl SmtpClient {
    /// Sends a mail once.
    pub(super) async fn send(&self, message: &Message) -> Result<(), MailError> {
        let content = message.formatted();
        let mut connection = timeout(SESSION_TIMEOUT, self.begin(message, &content))
            .await
            .map_err(|_| MailError::Unreachable("no answer in time".to_owned()))??;
        let answer = timeout(ACCEPTANCE_TIMEOUT, connection.message(&content)).await;
        quit(connection);
        match answer {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(about_mail(&error, MailError::InDoubt)),
            Err(_) => Err(MailError::InDoubt("no answer in time".to_owned())),
        }
    }

    /// Everything up to the server's word that the content may come.
    async fn begin(
        &self,
        message: &Message,
        content: &[u8],
    ) -> Result<AsyncSmtpConnection, MailError> {
        let mut connection = self.connect().await.map_err(|error| about_us(&error))?;
        let begun = send_envelope(&mut connection, message, content).await;
        match begun {
            Ok(()) => Ok(connection),
            Err(error) => {
                quit(connection);
                Err(error)
            }
        }
    }

    /// Connection, encryption and authentication.
    async fn connect(&self) -> Result<AsyncSmtpConnection, Error> {
        let hello = hello(&self.host, self.port).await;
        let implicit = match &self.encryption {
            Encryption::Implicit(parameters) => Some(parameters.clone()),
            Encryption::None | Encryption::StartTls(_) => None,
        };
        let server = (self.host.as_str(), self.port);
        let limit = Some(SESSION_TIMEOUT);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(server, limit, &hello, implicit, None).await?;
        if let Encryption::StartTls(parameters) = &self.encryption {
            connection.starttls(parameters.clone(), &hello).await?;
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(DEFAULT_MECHANISMS, credentials).await?;
        }
        Ok(connection)
    }
}

/// Sends the envelope: MAIL, RCPT and DATA.
async fn send_envelope(
    connection: &mut AsyncSmtpConnection,
    message: &Message,
    content: &[u8],
) -> Result<(), MailError> {
    let envelope = message.envelope();
    let is_ascii = |address: &lettre::Address| AsRef::<str>::as_ref(address).is_ascii();
    let recipient_is_ascii = envelope.to().iter().all(is_ascii);
    let mut parameters = Vec::new();
    if !recipient_is_ascii || !envelope.from().is_none_or(is_ascii) {
        if !connection
            .server_info()
            .supports_feature(Extension::SmtpUtfEight)
        {
            let text = "it takes no addresses beyond ASCII (SMTPUTF8)".to_owned();
            return Err(if recipient_is_ascii {
                MailError::Unwilling(text)
            } else {
                MailError::Rejected(text)
            });
        }
        parameters.push(MailParameter::SmtpUtfEight);
    }
    if !content.is_ascii() {
        // RFC 6531 section 3.1: a server that takes SMTPUTF8 takes 8BITMIME.
        parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    let sender = Mail::new(envelope.from().cloned(), parameters);
    connection.command(sender).await.map_err(|error| {
        // The sender is the same for all mails; the parameters are not.
        if error.is_permanent() && recipient_is_ascii {
            about_us(&error)
        } else {
            about_mail(&error, MailError::Unreachable)
        }
    })?;
    for recipient in envelope.to() {
        let command = Rcpt::new(recipient.clone(), Vec::new());
        let answer = connection.command(command).await;
        answer.map_err(|error| about_mail(&error, MailError::Unreachable))?;
    }
    let answer = connection.command(Data).await;
    answer.map_err(|error| about_mail(&error, MailError::Unreachable))?;
    Ok(())
}

/// The name in EHLO: that of this host where it is a full one, else the address that the server sees (RFC 5321 section
/// 4.1.4). Hosts in containers have short names, which servers may refuse.
async fn hello(host: &str, port: u16) -> ClientId {
    let name = ClientId::default();
    if matches!(&name, ClientId::Domain(name) if is_full_name(name)) {
        return name;
    }
    match own_address(host, port).await {
        Ok(IpAddr::V4(address)) => ClientId::Ipv4(address),
        Ok(IpAddr::V6(address)) => ClientId::Ipv6(address),
        Err(_) => name,
    }
}

fn is_full_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(legal)
    };
    name.contains('.') && name.split('.').all(is_label)
}

/// The address of this end of connections to the server. Nothing is sent for that: the kernel only finds the route.
async fn own_address(host: &str, port: u16) -> io::Result<IpAddr> {
    let mut found = Err(io::ErrorKind::AddrNotAvailable.into());
    for address in lookup_host((host, port)).await? {
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        found = socket
            .connect(address)
            .await
            .and_then(|()| socket.local_addr());
        if found.is_ok() {
            break;
        }
    }
    found.map(|address| address.ip())
}

/// Ends the session politely. What was answered before stands, so nobody waits for it.
fn quit(mut connection: AsyncSmtpConnection) {
    tokio::spawn(async move {
        let _ = timeout(QUIT_TIMEOUT, connection.quit()).await;
    });
}

/// The server's answer to something that is the same for all mails.
fn about_us(error: &Error) -> MailError {
    match error.status() {
        Some(_) => MailError::Unwilling(error_text(error)),
        None => MailError::Unreachable(error_text(error)),
    }
}

/// The server's answer about this mail, by its code and never by its words; `silent` where there is none.
fn about_mail(error: &Error, silent: fn(String) -> MailError) -> MailError {
    let text = error_text(error);
    if error.status().map(u16::from) == Some(NOT_AUTHENTICATED) {
        MailError::Unwilling(text)
    } else if error.is_permanent() {
        MailError::Rejected(text)
    } else if error.is_transient() {
        MailError::Deferred(text)
    } else {
        silent(text)
    }
}

/// The text after the code is the server's, and may repeat the recipient.
fn error_text(error: &Error) -> String {
    error
        .status()
        .map_or_else(|| error.to_string(), |code| format!("code {code}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_host_name_is_sent_in_ehlo() {
        for name in ["mail.example.org", "pod-1.auth.svc.cluster.local"] {
            assert!(is_full_name(name), "{name}");
        }
        for name in [
            "",
            "vm",
            "5f2c9a",
            "my_host.example.org",
            "a..b",
            "-a.b",
            "a.b-",
            "a.b.",
        ] {
            assert!(!is_full_name(name), "{name}");
        }
    }

    #[tokio::test]
    async fn the_own_address_is_the_one_on_the_way_to_the_server() {
        let found = own_address("127.0.0.1", 25).await.unwrap();
        assert_eq!(found, IpAddr::from([127, 0, 0, 1]));
    }
}

//! Types of variables: the SMTP server, the sender of mails, the address of the application.

use http::Uri;
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::refusal::Refusal;
use crate::secret::Secret;

/// An SMTP server (RFC 5321).
#[derive(Clone, Debug)]
pub struct SmtpServer {
    /// A name or an IP address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// How the connection is encrypted.
    pub tls: SmtpTls,
    /// User name and password (RFC 4954).
    pub credentials: Option<(String, Secret<String>)>,
}

/// How a connection to an SMTP server is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpTls {
    /// From the first byte (RFC 8314 section 3).
    Implicit,
    /// By STARTTLS (RFC 3207), without which nothing is sent.
    StartTls,
    /// Not at all.
    None,
}

/// The URL of an SMTP server: `smtps://USER:PASSWORD@HOST:PORT` or `smtp://…`, which uses STARTTLS unless `?tls=none`
/// follows. It may hold a password, so no message repeats it. The word `none`: mails are not sent.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct SmtpUrl(pub Option<SmtpServer>);

pub(super) const SMTP_HINT: &str = "use smtps://USER:PASSWORD@HOST, smtp://USER:PASSWORD@HOST:587 (STARTTLS), or \
     smtp://HOST:25?tls=none, with special characters in user and password percent-encoded, or the word none where no \
     mail is to be sent";

impl TryFrom<String> for SmtpUrl {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        if text == "none" {
            return Ok(Self(None));
        }
        let refuse = |wrong: &str| Refusal::new(wrong, SMTP_HINT);
        let uri: Uri = text.parse().map_err(|_| refuse("it is not a URL"))?;
        let (implicit, default_port) = match uri.scheme_str() {
            Some("smtps") => (true, 465),
            Some("smtp") => (false, 587),
            _ => return Err(refuse("the scheme is neither smtp nor smtps")),
        };
        if !matches!(uri.path(), "" | "/") {
            return Err(refuse("it has a path"));
        }
        let tls = match (uri.query(), implicit) {
            (None, true) => SmtpTls::Implicit,
            (None | Some("tls=required"), false) => SmtpTls::StartTls,
            (Some("tls=none"), false) => SmtpTls::None,
            _ => return Err(refuse("what follows the question mark is not understood")),
        };
        let authority = uri
            .authority()
            .ok_or_else(|| refuse("the host is missing"))?;
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        if host.is_empty() {
            return Err(refuse("the host is missing"));
        }
        Ok(Self(Some(SmtpServer {
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(default_port),
            tls,
            credentials: credentials(authority.as_str()).map_err(refuse)?,
        })))
    }
}

fn credentials(authority: &str) -> Result<Option<(String, Secret<String>)>, &'static str> {
    let Some((user_info, _)) = authority.rsplit_once('@') else {
        return Ok(None);
    };
    let (user, password) = user_info
        .split_once(':')
        .ok_or("there is a user without a password")?;
    let decode = |text: &str| percent_decode_str(text).decode_utf8().map(String::from);
    match (decode(user), decode(password)) {
        (Ok(user), Ok(password)) if !user.is_empty() && !password.is_empty() => {
            Ok(Some((user, Secret::new(password))))
        }
        _ => Err("user or password is empty or not UTF-8"),
    }
}

/// The address of the application: an `http` or `https` URL.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct AppUrl(pub String);

impl TryFrom<String> for AppUrl {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        let hint = "use an https URL (outside production also http) without query and fragment";
        let is_web = text.parse::<Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
        });
        if !is_web || text.contains(['?', '#', '@']) {
            return Err(Refusal::new(
                "it is not the address of an application",
                hint,
            ));
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

/// The sender of mails.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Sender(pub String);

impl TryFrom<String> for Sender {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        match text.parse::<lettre::message::Mailbox>() {
            Ok(_) => Ok(Self(text)),
            Err(_) => Err(Refusal::of(
                &text,
                "is not a sender",
                "use name@example.org or Name <name@example.org>",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn server(text: &str) -> Result<SmtpServer, String> {
        let url = SmtpUrl::try_from(text.to_owned());
        url.map(|url| url.0.expect("a server"))
            .map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn a_url_says_host_port_encryption_and_credentials() {
        let full = server("smtps://mail%40example.org:p%3Ass@smtp.example.org:4465").unwrap();
        assert_eq!((full.host.as_str(), full.port), ("smtp.example.org", 4465));
        assert_eq!(full.tls, SmtpTls::Implicit);
        let (user, password) = full.credentials.unwrap();
        assert_eq!(
            (user.as_str(), password.expose().as_str()),
            ("mail@example.org", "p:ss")
        );
        let start = server("smtp://smtp.example.org").unwrap();
        assert_eq!((start.port, start.tls), (587, SmtpTls::StartTls));
        assert!(start.credentials.is_none());
        let plain = server("smtp://[::1]:25?tls=none").unwrap();
        assert_eq!((plain.host.as_str(), plain.tls), ("::1", SmtpTls::None));
    }

    #[test]
    fn a_url_that_is_refused_is_not_repeated() {
        for text in [
            "smtp://user:secret@",
            "http://user:secret@example.org",
            "smtp://user:secret@example.org/path",
            "smtp://secret@example.org",
            "smtp://user:secret@example.org?tls=maybe",
            "smtps://user:secret@example.org?tls=none",
            "secret",
        ] {
            let refusal = server(text).unwrap_err();
            assert!(!refusal.contains("secret"), "{refusal}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "(smtps?://)?\\PC{0,60}") {
            let _ = SmtpUrl::try_from(text.clone());
            let _ = AppUrl::try_from(text.clone());
            let _ = Sender::try_from(text);
        }
    }
}

//! Why a mail was not sent.

/// Why a mail was not sent. No text holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// The server could not be reached, or the connection broke. Other mails would fail as well.
    #[error("no connection to the SMTP server: {0}")]
    Unreachable(String),
    /// The server refuses what all mails have in common: the credentials, the encryption, the sender. A matter for the operator.
    #[error("the SMTP server accepts no mails from this service: {0}")]
    Unwilling(String),
    /// The server had the whole mail, and did not say whether it takes it.
    #[error("the SMTP server did not confirm the mail: {0}")]
    InDoubt(String),
    /// The server refuses this mail for now, as greylisting does (RFC 5321 section 4.2.1, codes 4yz).
    #[error("the SMTP server rejected the mail temporarily: {0}")]
    Deferred(String),
    /// The server refuses this mail for good (codes 5yz), or it cannot be written.
    #[error("the mail cannot be delivered: {0}")]
    Rejected(String),
    /// A template or a setting is wrong: a matter for the operator.
    #[error("{0}")]
    Settings(String),
}

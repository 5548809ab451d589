//! Mails that the service sends.

use super::{Email, UserId};
use crate::clock::Timestamp;

/// What a mail is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MailKind {
    /// A token that sets a new password.
    PasswordReset,
    /// A token that verifies the address.
    EmailVerification,
    /// The password was changed.
    PasswordChanged,
    /// Somebody logged in on a device that is not known.
    NewDevice,
    /// An administrator created the account: a token that sets the first password.
    Invitation,
    /// Somebody tried to register with the address of a user: a token that sets a new password.
    RegistrationAttempt,
    /// A second factor was added.
    FactorAdded,
    /// A second factor was removed.
    FactorRemoved,
}

impl MailKind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::PasswordReset,
        Self::EmailVerification,
        Self::PasswordChanged,
        Self::NewDevice,
        Self::Invitation,
        Self::RegistrationAttempt,
        Self::FactorAdded,
        Self::FactorRemoved,
    ];

    /// The name in the database, in logs, and of the template's files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PasswordReset => "password_reset",
            Self::EmailVerification => "email_verification",
            Self::PasswordChanged => "password_changed",
            Self::NewDevice => "new_device",
            Self::Invitation => "invitation",
            Self::RegistrationAttempt => "registration_attempt",
            Self::FactorAdded => "factor_added",
            Self::FactorRemoved => "factor_removed",
        }
    }

    /// The kind with that name.
    pub fn from_stored(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Whom a mail is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// A user, at the address that the user has when the mail is sent.
    User(UserId),
    /// Whoever has this address, if anybody.
    Address(Email),
}

/// A mail that is to be sent.
#[derive(Clone, Debug)]
pub struct NewMail {
    /// What it is about.
    pub kind: MailKind,
    /// Whom it is for.
    pub recipient: Recipient,
    /// Of mails with the same name only the first is kept, until a while after it was sent.
    pub slot: Option<String>,
    /// The request that caused it.
    pub request_id: String,
    /// Where that came from, as text.
    pub client_ip: String,
    /// When.
    pub created_at: Timestamp,
}

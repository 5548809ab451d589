//! Makes the mail that a row of the outbox asks for: looks the user up, derives the token, fills the template.

use lettre::{
    Address, Message,
    address::Envelope,
    message::{Mailbox, MultiPart, header},
};

use super::{
    MailError,
    templates::{Templates, Values},
};
use crate::{
    clock::Timestamp,
    config::MailSettings,
    domain::{MailKind, Recipient, User},
    secret::Secret,
    store::{ClaimedMail, RecoverySubject, Store, StoreError},
    tokens::{DerivedKeys, OneTimePurpose},
};

/// Everything that mails are made of.
pub(super) struct Composer {
    pub(super) settings: MailSettings,
    pub(super) issuer: String,
    pub(super) templates: Templates,
}

/// A token, and how long it is good.
struct Token {
    text: Secret<String>,
    valid_for: String,
}

impl Composer {
    /// The user whom the mail is for; `None`: nobody, because there is no such user, or because there is nothing to tell
    /// any more.
    pub(super) async fn find_recipient(
        store: &Store,
        mail: &ClaimedMail,
    ) -> Result<Option<RecoverySubject>, StoreError> {
        let found = match &mail.recipient {
            Recipient::User(id) => store.find_recovery_subject(*id).await?,
            Recipient::Address(email) => store.find_recovery_subject_by_email(email).await?,
        };
        Ok(found.filter(|subject| {
            let user = &subject.user;
            user.disabled_at.is_none()
                && (mail.kind != MailKind::EmailVerification || user.email_verified_at.is_none())
        }))
    }

    /// The mail to that user. It goes to the address that is stored, whatever address was asked for.
    pub(super) fn compose(
        &self,
        mail: &ClaimedMail,
        subject: &RecoverySubject,
        keys: &DerivedKeys,
        now: Timestamp,
    ) -> Result<Message, MailError> {
        let user = &subject.user;
        let token = self.token(mail.kind, subject, keys, now);
        let rendered = self.templates.render(
            mail.kind,
            &Values {
                email: user.email.as_str(),
                display_name: user.display_name.as_str(),
                issuer: &self.issuer,
                app_url: self.settings.app_url.as_deref().unwrap_or_default(),
                token: token.as_ref().map_or("", |token| token.text.expose()),
                valid_for: token.as_ref().map_or("", |token| token.valid_for.as_str()),
                client_ip: &mail.client_ip,
            },
        )?;
        let from = self.from()?;
        let to = recipient(user);
        let domain = from.email.domain().to_owned();
        // lettre would read the addresses from the headers, by its own check again.
        let envelope = Envelope::new(Some(from.email.clone()), vec![to.email.clone()])
            .map_err(|error| MailError::Rejected(error.to_string()))?;
        Message::builder()
            .envelope(envelope)
            .from(from)
            .to(to)
            .subject(rendered.subject)
            // The same at each attempt, so that a mailbox can drop a second copy.
            .message_id(Some(format!("<{}@{domain}>", mail.id)))
            .header(AutoSubmitted)
            .multipart(MultiPart::alternative_plain_html(rendered.text, rendered.html))
            .map_err(|error| MailError::Rejected(error.to_string()))
    }

    fn token(
        &self,
        kind: MailKind,
        subject: &RecoverySubject,
        keys: &DerivedKeys,
        now: Timestamp,
    ) -> Option<Token> {
        let user = &subject.user;
        let (purpose, ttl, bound_to) = match kind {
            MailKind::PasswordReset | MailKind::RegistrationAttempt => (
                OneTimePurpose::ResetPassword,
                self.settings.reset_ttl,
                subject.password_hash.as_str(),
            ),
            MailKind::EmailVerification => (
                OneTimePurpose::VerifyEmail,
                self.settings.verification_ttl,
                user.email.as_str(),
            ),
            MailKind::Invitation => (
                OneTimePurpose::Invitation,
                self.settings.invitation_ttl,
                subject.password_hash.as_str(),
            ),
            MailKind::PasswordChanged
            | MailKind::NewDevice
            | MailKind::FactorAdded
            | MailKind::FactorRemoved => return None,
        };
        Some(Token {
            text: keys.one_time_token(purpose, user.id, now + ttl, bound_to),
            valid_for: humantime::format_duration(ttl).to_string(),
        })
    }

    fn from(&self) -> Result<Mailbox, MailError> {
        let parsed = self.settings.from.parse();
        parsed.map_err(|error| MailError::Settings(format!("COUNTERSIGN_MAIL_FROM: {error}")))
    }
}

fn recipient(user: &User) -> Mailbox {
    let (local, domain) = user.email.parts();
    // The address was checked when it became an `Email`. lettre's check knows no combining marks and would refuse names in
    // Hindi or Thai (RFC 6531 section 3.3 allows them).
    let address = Address::new_dangerous(local, domain);
    let name = Some(user.display_name.as_str()).filter(|name| !name.is_empty());
    Mailbox::new(name.map(str::to_owned), address)
}

/// Keeps other programs from answering (RFC 3834 section 5).
#[derive(Clone)]
struct AutoSubmitted;

impl header::Header for AutoSubmitted {
    fn name() -> header::HeaderName {
        header::HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> header::HeaderValue {
        header::HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

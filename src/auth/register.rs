//! Register: creates a user if the password meets the policy and the address is not taken. `COUNTERSIGN_REGISTRATION` says who
//! may register, and whether the answer tells that an address is taken.

use super::{Auth, AuthError, RequestContext, recovery::SLOT_SECONDS};
use crate::{
    config::Registration,
    domain::{DisplayName, Email, MailKind, NewMail, Password, Recipient, Roles, User, UserId},
    passwords::PasswordHash,
    store::{AuditEvent, AuditKind, StoreError},
};

/// A validated Register request.
pub struct RegisterCommand {
    /// The e-mail address, which identifies the user.
    pub email: Email,
    /// The password.
    pub password: Password,
    /// The display name; may be empty.
    pub display_name: DisplayName,
}

impl Auth {
    /// Creates a user, who is returned if registration is open.
    ///
    /// Where addresses have to be verified, nobody is returned: a free and a taken address take the same work and get the
    /// same answer, and the owner gets a mail.
    ///
    /// # Errors
    /// [`AuthError::RegistrationClosed`], [`AuthError::WeakPassword`], [`AuthError::EmailTaken`], [`AuthError::Overloaded`],
    /// [`AuthError::DatabaseUnavailable`].
    pub async fn register(
        &self,
        command: RegisterCommand,
        context: &RequestContext,
    ) -> Result<Option<User>, AuthError> {
        let parts = &self.parts;
        let registration = parts.settings.registration;
        if registration == Registration::Closed {
            return Err(AuthError::RegistrationClosed);
        }
        let personal = vec![
            command.email.as_str().to_owned(),
            command.display_name.as_str().to_owned(),
        ];
        // Do not spend a hash on a user that cannot be stored while the database is down.
        parts.store.check_available()?;
        let place = parts.passwords.reserve(context.deadline)?;
        let hash = place
            .hash_new("password", command.password, personal)
            .await?;
        let now = parts.clock.now();
        let user = User {
            id: UserId::generate(now),
            email: command.email,
            display_name: command.display_name,
            email_verified_at: None,
            roles: Roles::default(),
            created_at: now,
            updated_at: now,
            disabled_at: None,
        };
        let event = context.audit_event(AuditKind::UserRegistered, now);
        if registration == Registration::Verified {
            self.register_unseen(&user, &hash, &event, context).await?;
            return Ok(None);
        }
        let inserted = parts
            .store
            .insert_user(&user, hash.as_str(), &event, None)
            .await;
        inserted.map_err(taken)?;
        Ok(Some(user))
    }

    /// Creates the user if the address is free, without a sign whether it was.
    async fn register_unseen(
        &self,
        user: &User,
        hash: &PasswordHash,
        event: &AuditEvent,
        context: &RequestContext,
    ) -> Result<(), AuthError> {
        let (parts, now) = (&self.parts, user.created_at);
        let refused = context.audit_event(AuditKind::RegistrationRefused, now);
        let mail = |kind: MailKind, recipient| NewMail {
            slot: Some(
                parts
                    .derived_keys
                    .mail_slot(kind.as_str(), &user.email, now, SLOT_SECONDS),
            ),
            ..context.mail(kind, recipient, now)
        };
        let verification = mail(MailKind::EmailVerification, Recipient::User(user.id));
        let owner = Recipient::Address(user.email.clone());
        let attempt = mail(MailKind::RegistrationAttempt, owner);
        let outcomes = [(event, &verification), (&refused, &attempt)];
        let store = &parts.store;
        store
            .insert_user_or_tell_owner(user, hash.as_str(), outcomes)
            .await?;
        Ok(())
    }

    /// Whether a user who is not disabled may log in.
    pub(super) fn admits(&self, user: &User) -> bool {
        self.parts.settings.registration != Registration::Verified
            || user.email_verified_at.is_some()
    }
}

/// The failure of an insertion.
pub(super) fn taken(error: StoreError) -> AuthError {
    match error {
        StoreError::Conflict => AuthError::EmailTaken,
        other => other.into(),
    }
}

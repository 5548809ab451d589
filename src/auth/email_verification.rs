//! RequestEmailVerification and VerifyEmail: proof that a user reads the mailbox of the registered address.

use super::{Auth, AuthError, RequestContext, recovery::SLOT_SECONDS};
use crate::{
    domain::{MailKind, NewMail, Recipient, User, UserId},
    store::AuditKind,
    tokens::OneTimePurpose,
};

impl Auth {
    /// Has a mail sent with a token that verifies the user's address; nothing where that is verified already.
    ///
    /// # Errors
    /// [`AuthError::UserNotFound`], [`AuthError::DatabaseUnavailable`].
    pub async fn request_email_verification(
        &self,
        user_id: UserId,
        context: &RequestContext,
    ) -> Result<(), AuthError> {
        let parts = &self.parts;
        let user = self.users().find(user_id).await?;
        if user.email_verified_at.is_some() {
            return Ok(());
        }
        let now = parts.clock.now();
        let kind = MailKind::EmailVerification;
        let slot = parts
            .derived_keys
            .mail_slot(kind.as_str(), &user.email, now, SLOT_SECONDS);
        let mail = NewMail {
            slot: Some(slot),
            ..context.mail(kind, Recipient::User(user_id), now)
        };
        Ok(parts.store.queue_mail(&mail).await?)
    }

    /// Marks an address as verified by a token from a mail. The token is used up.
    ///
    /// # Errors
    /// [`AuthError::OneTimeTokenInvalid`], [`AuthError::DatabaseUnavailable`].
    pub async fn verify_email(
        &self,
        token: &str,
        context: &RequestContext,
    ) -> Result<User, AuthError> {
        let parts = &self.parts;
        let (keys, now) = (&parts.derived_keys, parts.clock.now());
        let token = keys
            .parse_one_time_token(OneTimePurpose::VerifyEmail, token, now)
            .ok_or_else(|| self.refused_token(token, AuthError::OneTimeTokenInvalid))?;
        let user = parts.store.find_user(token.user_id).await?;
        let user = user
            .filter(|user| keys.is_bound_to(&token, user.email.as_str()))
            .ok_or(AuthError::OneTimeTokenInvalid)?;
        let event = context.audit_event(AuditKind::EmailVerified, now);
        let store = &parts.store;
        if !store
            .verify_email(user.id, &user.email, now, &event)
            .await?
        {
            return Err(AuthError::OneTimeTokenInvalid);
        }
        Ok(User {
            email_verified_at: Some(now),
            updated_at: now,
            ..user
        })
    }
}

//! RequestPasswordReset and ResetPassword: a new password for whoever reads the mailbox (OWASP "Forgot Password Cheat
//! Sheet").

use super::{Auth, AuthError, RequestContext, in_its_own_task, write_locks::Writer};
use crate::{
    domain::{Email, MailKind, NewMail, Password, Recipient, User},
    store::{AuditEvent, AuditKind, PasswordReset, RecoverySubject},
    tokens::OneTimePurpose,
};

/// Within so many seconds one address gets one mail of a kind, however often it is asked for.
pub(super) const SLOT_SECONDS: i64 = 300;

impl Auth {
    /// Has a mail sent with a token that sets a new password, if the address belongs to an enabled user.
    ///
    /// The same single statement is executed for every address; whose it is, is looked up when the mail is sent. So
    /// neither the answer nor its time says who has an account.
    ///
    /// # Errors
    /// [`AuthError::DatabaseUnavailable`].
    pub async fn request_password_reset(
        &self,
        email: Email,
        context: &RequestContext,
    ) -> Result<(), AuthError> {
        let parts = &self.parts;
        let now = parts.clock.now();
        let kind = MailKind::PasswordReset;
        let slot = parts
            .derived_keys
            .mail_slot(kind.as_str(), &email, now, SLOT_SECONDS);
        let mail = NewMail {
            slot: Some(slot),
            ..context.mail(kind, Recipient::Address(email), now)
        };
        Ok(parts.store.queue_mail(&mail).await?)
    }

    /// Sets a new password by a token from a mail, and ends every session of the user. The token is used up; a weak
    /// password leaves it good. The failures of a user without a second factor are forgiven.
    ///
    /// # Errors
    /// [`AuthError::OneTimeTokenInvalid`], [`AuthError::WeakPassword`], [`AuthError::Overloaded`],
    /// [`AuthError::RateLimited`], [`AuthError::DatabaseUnavailable`].
    pub async fn reset_password(
        &self,
        token: &str,
        new_password: Password,
        context: &RequestContext,
    ) -> Result<(), AuthError> {
        let subject = self.reset_subject(token).await?;
        let parts = &self.parts;
        let user = &subject.user;
        let place = parts.passwords.reserve(context.deadline)?;
        let personal = vec![
            user.email.as_str().to_owned(),
            user.display_name.as_str().to_owned(),
        ];
        let new_hash = place
            .hash_new("new_password", new_password, personal)
            .await?;
        let locks = &self.locks.users;
        let lock = locks.lock(user.id, Writer::User, context.deadline).await?;
        let now = parts.clock.now();
        let event = context.audit_event(AuditKind::PasswordReset, now);
        let mail = context.mail(MailKind::PasswordChanged, Recipient::User(user.id), now);
        let cleared = context.audit_event(AuditKind::LoginFailuresCleared, now);
        let auth = self.clone();
        in_its_own_task(async move {
            let _lock = lock;
            let parts = &auth.parts;
            let reset = PasswordReset {
                user_id: subject.user.id,
                old_hash: &subject.password_hash,
                new_hash: new_hash.as_str(),
                mail: &mail,
            };
            let reset = parts
                .store
                .reset_password(reset, now, parts.remember(), &event)
                .await?
                // Used, or the user was disabled, since the token was checked.
                .ok_or(AuthError::OneTimeTokenInvalid)?;
            parts.revocations.learn(&reset.ended.revocations);
            parts.store.request_sweep_if(reset.ended.is_partial);
            match reset.has_factor {
                // Wrong codes are counted with wrong passwords: who reads the mailbox would guess codes without end.
                true => Ok(()),
                false => auth.forgive_failures(&subject.user, &cleared).await,
            }
        })
        .await
    }

    /// The user whose password an authentic token resets, checked before a password is hashed for it.
    async fn reset_subject(&self, token: &str) -> Result<RecoverySubject, AuthError> {
        let parts = &self.parts;
        let (keys, now) = (&parts.derived_keys, parts.clock.now());
        let purposes = [OneTimePurpose::ResetPassword, OneTimePurpose::Invitation];
        let token = purposes
            .into_iter()
            .find_map(|purpose| keys.parse_one_time_token(purpose, token, now))
            .ok_or_else(|| self.refused_token(token, AuthError::OneTimeTokenInvalid))?;
        let found = parts.store.find_recovery_subject(token.user_id).await?;
        found
            .filter(|subject| subject.user.disabled_at.is_none())
            .filter(|subject| keys.is_bound_to(&token, &subject.password_hash))
            .ok_or(AuthError::OneTimeTokenInvalid)
    }

    /// The owner has come back by another way: earlier guesses do not delay the next login.
    async fn forgive_failures(&self, user: &User, event: &AuditEvent) -> Result<(), AuthError> {
        let parts = &self.parts;
        let names = parts.derived_keys.account_counters(&user.email);
        parts
            .store
            .clear_counters_of(user.id, &names, event)
            .await?;
        Ok(())
    }
}

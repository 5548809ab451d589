//! ChangePassword: replaces the password, revokes every session of the user and opens a new one.

use super::{
    Auth, AuthError, RequestContext,
    claimant::Claimant,
    in_its_own_task,
    issue::{Grant, TokenPair},
    throttle::Proven,
    write_locks::Writer,
};
use crate::{
    domain::{MailKind, Password, Recipient, SessionClaims, SessionId, UserId},
    store::{AuditKind, PasswordChange},
};

/// A validated ChangePassword request.
pub struct ChangePasswordCommand {
    /// The caller.
    pub user_id: UserId,
    /// The caller's session.
    pub session_id: SessionId,
    /// The current password.
    pub current_password: Password,
    /// The new password.
    pub new_password: Password,
}

impl Auth {
    /// Replaces the password, ends every session of the user and opens a new one.
    ///
    /// Wrong current passwords are counted like failed logins, but per session: a stolen access token allows neither
    /// unlimited guesses nor delaying the user's logins, and failed logins do not delay a change of the password.
    ///
    /// # Errors
    /// [`AuthError::InvalidCredentials`], [`AuthError::AccountThrottled`], [`AuthError::WeakPassword`],
    /// [`AuthError::UserNotFound`], [`AuthError::Overloaded`], [`AuthError::DatabaseUnavailable`].
    pub async fn change_password(
        &self,
        command: ChangePasswordCommand,
        context: &RequestContext,
    ) -> Result<TokenPair, AuthError> {
        // Before a place in the hashing queue is taken, so that one user has one there.
        let locks = &self.locks.password_changes;
        let lock = locks.lock(command.user_id, Writer::User, context.deadline);
        let _lock = lock.await?;
        let ChangePasswordCommand {
            user_id,
            session_id,
            current_password,
            new_password,
        } = command;
        let proven = self
            .in_attempt(context, move |auth, mut caller| async move {
                let claimant = Claimant::Session(user_id, session_id);
                let attempt = auth.begin_attempt(&claimant, &mut caller).await?;
                if !attempt.has_user() {
                    return Err(AuthError::UserNotFound);
                }
                let proven = auth.judge(attempt, current_password, &mut caller).await?;
                auth.accept(&proven.admitted).await?;
                Ok(proven)
            })
            .await?;
        self.replace_password(proven, new_password, session_id, context)
            .await
    }

    async fn replace_password(
        &self,
        proven: Proven,
        new_password: Password,
        current_session: SessionId,
        context: &RequestContext,
    ) -> Result<TokenPair, AuthError> {
        let parts = &self.parts;
        let user = &proven.user;
        let place = parts.passwords.reserve(context.deadline)?;
        let personal = vec![
            user.email.as_str().to_owned(),
            user.display_name.as_str().to_owned(),
        ];
        let new_hash = place
            .hash_new("new_password", new_password, personal)
            .await?;
        // Lost by a restored backup: whoever holds its token logs in again.
        let current = parts.store.find_session(current_session).await?;
        let current = current.ok_or(AuthError::TokenRevoked)?;
        let locks = &self.locks.users;
        let lock = locks.lock(user.id, Writer::User, context.deadline).await?;
        let before = current.claims;
        let audiences = before.audiences.clone();
        let mut session = self.new_session(user, current.device_label, audiences, context);
        if !SessionClaims::is_one_factor(before.acr()) {
            // The password alone would make it weaker. It says when the user proved more than that.
            session.claims.authenticated_at = before.authenticated_at;
            session.claims.methods = before.methods;
        }
        let now = session.created_at;
        let event = context.audit_event(AuditKind::PasswordChanged, now);
        let mail = context.mail(MailKind::PasswordChanged, Recipient::User(user.id), now);
        let auth = self.clone();
        in_its_own_task(async move {
            let _lock = lock;
            let parts = &auth.parts;
            let change = PasswordChange {
                session: &session,
                verified_hash: &proven.verified_hash,
                new_hash: new_hash.as_str(),
                mail: &mail,
            };
            let changed = parts
                .store
                .change_password(change, now, parts.remember(), &event)
                .await?
                // Disabled, or changed by somebody else, since the password was checked.
                .ok_or(AuthError::InvalidCredentials)?;
            parts.revocations.learn(&changed.ended.revocations);
            parts.store.request_sweep_if(changed.ended.is_partial);
            session.claims.issued_after = changed.issued_after;
            let grant = Grant::of(&session, &changed.roles);
            auth.issue_pair(&grant, parts.clock.now())
        })
        .await
    }
}

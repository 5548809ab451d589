//! Changing a password: whoever held a token of the account is out, and the caller gets new ones.

use super::{
    Auth, AuthError, RequestContext, in_its_own_task,
    issue::{Grant, TokenPair},
};
use crate::{
    domain::{DeviceLabel, Password, SessionId, User, UserId},
    passwords::Verdict,
    store::{AuditKind, PasswordChange},
};

/// A checked request for another password.
pub struct ChangePasswordCommand {
    /// Who asks.
    pub user_id: UserId,
    /// The session in which it is asked for.
    pub session_id: SessionId,
    /// The password that is good until now.
    pub current_password: Password,
    /// The password to replace it.
    pub new_password: Password,
}

/// A user whose password has just been checked.
struct Checked {
    user: User,
    verified_hash: String,
    account: String,
}

impl Auth {
    /// Replaces the password, ends every session of the user and opens a new one.
    ///
    /// A wrong current password is held against the account as a failed login is: an access token alone does not
    /// allow guessing.
    ///
    /// # Errors
    /// [`AuthError::InvalidCredentials`], [`AuthError::AccountThrottled`], [`AuthError::WeakPassword`],
    /// [`AuthError::UserNotFound`], [`AuthError::Overloaded`], [`AuthError::DatabaseUnavailable`].
    pub async fn change_password(
        &self,
        command: ChangePasswordCommand,
        context: &RequestContext,
    ) -> Result<TokenPair, AuthError> {
        let parts = &self.parts;
        let place = parts.passwords.reserve(context.deadline)?;
        let user = self.users().find(command.user_id).await?;
        let (attempt, found) = self.begin_attempt(&user.email, parts.clock.now()).await?;
        let stored = found.as_ref().map(|(_, hash)| hash.as_str());
        let verdict = self
            .judge_attempt(&attempt, place, command.current_password, stored)
            .await?;
        let found = found.filter(|(found, _)| found.id == user.id);
        let (Verdict::Right { .. }, Some((user, verified_hash))) = (verdict, found) else {
            return Err(AuthError::InvalidCredentials);
        };
        let checked = Checked {
            user,
            verified_hash,
            account: attempt.account.clone(),
        };
        let replaced = self
            .replace_password(checked, command.new_password, command.session_id, context)
            .await;
        if replaced.is_err() {
            self.uncount_in_the_background(attempt);
        }
        replaced
    }

    async fn replace_password(
        &self,
        checked: Checked,
        new_password: Password,
        current_session: SessionId,
        context: &RequestContext,
    ) -> Result<TokenPair, AuthError> {
        let parts = &self.parts;
        let user = &checked.user;
        let place = parts.passwords.reserve(context.deadline)?;
        let personal = vec![
            user.email.as_str().to_owned(),
            user.display_name.as_str().to_owned(),
        ];
        let new_hash = place
            .hash_new("new_password", new_password, personal)
            .await?;
        let label = self.device_label(current_session).await?;
        let session = self.new_session(user, label, context);
        let now = session.created_at;
        let event = context.audit_event(AuditKind::PasswordChanged, now);
        let auth = self.clone();
        in_its_own_task(async move {
            let parts = &auth.parts;
            let change = PasswordChange {
                session: &session,
                verified_hash: &checked.verified_hash,
                new_hash: new_hash.as_str(),
                account: &checked.account,
            };
            let changed = parts
                .store
                .change_password(change, now, parts.remember(), &event)
                .await?
                // Disabled, or changed by somebody else, since the password was checked.
                .ok_or(AuthError::InvalidCredentials)?;
            parts.revocations.learn(&changed.ended.revocations);
            let grant = Grant::of(&session, &changed.roles);
            auth.issue_pair(&grant, parts.clock.now())
        })
        .await
    }

    /// What the user calls the device of a session.
    async fn device_label(&self, session: SessionId) -> Result<DeviceLabel, AuthError> {
        let found = self.parts.store.find_session(session).await?;
        Ok(found
            .map(|session| session.device_label)
            .unwrap_or_default())
    }
}

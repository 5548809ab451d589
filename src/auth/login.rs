//! Logging in: e-mail and password for a session.

use super::{
    Auth, AuthError, RequestContext,
    issue::{Grant, TokenPair},
};
use crate::{
    clock::Timestamp,
    domain::{DeviceLabel, Email, Password, Session, SessionId, User},
    passwords::{PasswordHash, Verdict},
    store::Login,
};

/// A checked request to log in.
pub struct LoginCommand {
    /// The address of the account.
    pub email: Email,
    /// The password.
    pub password: Password,
    /// What the user calls the device.
    pub device_label: DeviceLabel,
}

/// A session that was opened.
pub struct LoggedIn {
    /// Its first tokens.
    pub tokens: TokenPair,
    /// Its user.
    pub user: User,
}

impl Auth {
    /// Checks the credentials and opens a session.
    ///
    /// Unknown address, wrong password and disabled account take the same way and get the same answer.
    ///
    /// # Errors
    /// [`AuthError::InvalidCredentials`], [`AuthError::AccountThrottled`], [`AuthError::Overloaded`],
    /// [`AuthError::DatabaseUnavailable`].
    pub async fn login(
        &self,
        command: LoginCommand,
        context: &RequestContext,
    ) -> Result<LoggedIn, AuthError> {
        let parts = &self.parts;
        // First of all, so that a login storm is turned away before it costs the database anything.
        let place = parts.passwords.reserve(context.deadline)?;
        let now = parts.clock.now();
        let (attempt, found) = self.begin_attempt(&command.email, now).await?;

        let stored = found.as_ref().map(|(_, hash)| hash.as_str());
        let verdict = self
            .judge_attempt(&attempt, place, command.password, stored)
            .await?;
        let (Verdict::Right { rehashed }, Some((mut user, verified_hash))) = (verdict, found)
        else {
            return Err(AuthError::InvalidCredentials);
        };

        let session = self.new_session(&user, command.device_label, context);
        let opening = parts.store.open_session(Login {
            session: &session,
            verified_hash: &verified_hash,
            new_hash: rehashed.as_ref().map(PasswordHash::as_str),
            account: &attempt.account,
        });
        let opened = match opening.await {
            Ok(opened) => opened,
            Err(error) => {
                self.uncount_in_the_background(attempt);
                return Err(error.into());
            }
        };
        // The roles that were read before the hash may have been taken away since.
        user.roles = opened.ok_or(AuthError::InvalidCredentials)?;
        let grant = Grant::of(&session, &user.roles);
        let tokens = self.issue_pair(&grant, parts.clock.now())?;
        Ok(LoggedIn { tokens, user })
    }

    /// A session of a user who has just shown the password; not opened yet.
    pub(super) fn new_session(
        &self,
        user: &User,
        device_label: DeviceLabel,
        context: &RequestContext,
    ) -> Session {
        let now: Timestamp = self.parts.clock.now();
        let settings = &self.parts.settings;
        Session {
            id: SessionId::generate(now),
            user_id: user.id,
            device_label,
            client_ip: context.client_ip.clone(),
            user_agent: context.user_agent.clone(),
            generation: 0,
            created_at: now,
            rotated_at: now,
            idle_expires_at: now + settings.refresh_token_ttl,
            absolute_expires_at: now + settings.session_max_lifetime,
            revoked_at: None,
        }
    }
}

//! Login: checks e-mail and password and opens a session.

use super::{
    Auth, AuthError, RequestContext,
    claimant::Claimant,
    issue::{Grant, TokenPair},
    login_challenge::LoginChallenge,
    throttle::{Caller, Proven},
    write_locks::Writer,
};
use crate::{
    clock::Timestamp,
    domain::{
        DeviceId, DeviceLabel, Email, MailKind, NewMail, Password, Recipient, Roles, Session,
        SessionClaims, SessionId, User,
    },
    passwords::PasswordHash,
    secret::Secret,
    store::{AuditDetails, AuditEvent, AuditKind, FactorProof, Login, Opening},
    tokens::KnownDevice,
};

/// A validated Login request.
pub struct LoginCommand {
    /// The e-mail address of the account.
    pub email: Email,
    /// The password.
    pub password: Password,
    /// The user's label for the session.
    pub device_label: DeviceLabel,
    /// The device token of an earlier login. An empty, malformed or forged one, or another user's, counts as none.
    pub device_token: Secret<String>,
    /// The audiences of the session's access tokens; empty for all that are configured.
    pub audiences: Vec<String>,
}

/// How often a password is compared with the stored hash if that hash is replaced during the comparison: by another
/// login that renewed outdated parameters, or by a change of the password.
const JUDGEMENTS: usize = 3;

/// What a right password comes to.
pub enum LoginOutcome {
    /// The session is open.
    LoggedIn(LoggedIn),
    /// The user has a second factor, and must prove it first.
    Challenged(LoginChallenge),
}

/// The result of a successful login.
pub struct LoggedIn {
    /// The session's first tokens.
    pub tokens: TokenPair,
    /// The user.
    pub user: User,
    /// To be sent with the next login on this device.
    pub device_token: Secret<String>,
}

impl Auth {
    /// Checks the credentials and opens a session, or asks for the second factor of a user who has one.
    ///
    /// An unknown address, a wrong password and an account that may not log in take the same steps and get the same answer.
    ///
    /// # Errors
    /// [`AuthError::InvalidCredentials`], [`AuthError::AccountThrottled`], [`AuthError::Overloaded`],
    /// [`AuthError::DatabaseUnavailable`].
    pub async fn login(
        &self,
        command: LoginCommand,
        context: &RequestContext,
    ) -> Result<LoginOutcome, AuthError> {
        let audiences = self.asked_audiences(&command.audiences)?;
        let context = context.clone();
        self.in_attempt(&context.clone(), |auth, caller| async move {
            auth.log_in(command, audiences, &context, caller).await
        })
        .await
    }

    async fn log_in(
        &self,
        command: LoginCommand,
        audiences: Option<Vec<String>>,
        context: &RequestContext,
        mut caller: Caller,
    ) -> Result<LoginOutcome, AuthError> {
        let keys = &self.parts.derived_keys;
        let claimant = Claimant::Login {
            email: command.email,
            device: keys.parse_device_token(command.device_token.expose()),
        };
        for _ in 0..JUDGEMENTS {
            let attempt = self.begin_attempt(&claimant, &mut caller).await?;
            let password = command.password.clone();
            let mut proven = self.judge(attempt, password, &mut caller).await?;
            let label = command.device_label.clone();
            if !proven.factors.is_empty() {
                let challenge = self.challenge(proven, label, audiences.clone()).await?;
                match challenge {
                    Some(challenge) => return Ok(LoginOutcome::Challenged(challenge)),
                    None => continue,
                }
            }
            let mut session = self.new_session(&proven.user, label, audiences.clone(), context);
            let opened = self.open(&proven, &session, None, context).await?;
            if let Some((roles, issued_after)) = opened {
                // Those that were read before the hash may have been taken away since.
                proven.user.roles = roles;
                session.claims.issued_after = issued_after;
                return self.logged_in(proven, &session).map(LoginOutcome::LoggedIn);
            }
        }
        Err(AuthError::Internal(
            "the password hash changed during every attempt".to_owned(),
        ))
    }

    /// Opens a session for a user whose password was verified, or who gave another proof, and returns the user's roles and
    /// after when the session's tokens are dated. `None` when the credentials changed since.
    ///
    /// # Errors
    /// [`AuthError::SecondFactorInvalid`] when what the proof uses up was used before: the caller has to count that.
    pub(super) async fn open(
        &self,
        proven: &Proven,
        session: &Session,
        proof: Option<&FactorProof>,
        context: &RequestContext,
    ) -> Result<Option<(Roles, Timestamp)>, AuthError> {
        let Proven { admitted, .. } = proven;
        let locks = &self.locks.users;
        let lock = locks.lock(session.user_id, Writer::Login, context.deadline);
        let _lock = match lock.await {
            Ok(lock) => lock,
            Err(error) => {
                self.release(admitted).await;
                return Err(error);
            }
        };
        let parts = &self.parts;
        let now = session.created_at;
        let ended_event = context.audit_event(AuditKind::SessionLimitReached, now);
        let new_device = admitted.device.is_none();
        let event = AuditEvent {
            details: AuditDetails::Login {
                new_device,
                breached_password: proven.is_breached,
            },
            ..context.audit_event(AuditKind::LoggedIn, now)
        };
        let mail = (new_device && admitted.has_logged_in)
            .then(|| self.new_device_mail(&proven.user, context, now));
        let opening = parts.store.open_session(Login {
            session,
            verified_hash: &proven.verified_hash,
            new_hash: proven.rehashed.as_ref().map(PasswordHash::as_str),
            counter: &admitted.key.name,
            clear: admitted.has_failures,
            limit: self.failure_limit().get(),
            claim: admitted.claim,
            proof,
            max_sessions: parts.settings.max_sessions_per_user,
            remember: parts.remember(),
            event: &event,
            ended_event: &ended_event,
            mail: mail.as_ref(),
        });
        match opening.await {
            Ok(Opening::Opened(opened)) => {
                parts.revocations.learn(&opened.ended);
                parts.store.request_sweep_if(opened.is_partial);
                Ok(Some((opened.roles, opened.issued_after)))
            }
            Ok(Opening::CredentialsChanged) => {
                self.release(admitted).await;
                Ok(None)
            }
            Ok(Opening::ProofRefused) => Err(AuthError::SecondFactorInvalid),
            Ok(Opening::Throttled(counter)) => {
                let refusal = self.throttled(counter);
                self.note_refusal(&refusal, Some(session.user_id), None, context);
                Err(refusal)
            }
            Err(error) => {
                self.release(admitted).await;
                Err(error.into())
            }
        }
    }

    /// The mail to the user that somebody logged in without a device token of an earlier login. One is enough for each
    /// client address and program within a day, for clients that keep no device token.
    fn new_device_mail(&self, user: &User, context: &RequestContext, now: Timestamp) -> NewMail {
        let kind = MailKind::NewDevice;
        let client = [context.client_ip.as_str(), &context.user_agent];
        let keys = &self.parts.derived_keys;
        let slot = keys.client_mail_slot(kind.as_str(), &user.email, client, now);
        NewMail {
            slot: Some(slot),
            ..context.mail(kind, Recipient::User(user.id), now)
        }
    }

    /// The tokens of a session that was opened.
    pub(super) fn logged_in(
        &self,
        proven: Proven,
        session: &Session,
    ) -> Result<LoggedIn, AuthError> {
        let now = self.parts.clock.now();
        let Proven { user, admitted, .. } = proven;
        let grant = Grant::of(session, &user.roles);
        let tokens = self.issue_pair(&grant, now)?;
        let device_token = self.parts.derived_keys.device_token(KnownDevice {
            user_id: user.id,
            device_id: admitted.device.unwrap_or_else(|| DeviceId::generate(now)),
        });
        Ok(LoggedIn {
            tokens,
            user,
            device_token,
        })
    }

    /// A session for a user whose password was just verified; it is not stored yet.
    pub(super) fn new_session(
        &self,
        user: &User,
        device_label: DeviceLabel,
        audiences: Option<Vec<String>>,
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
            claims: SessionClaims::of_password(now, audiences),
        }
    }
}

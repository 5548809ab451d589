//! Reauthenticate: a user authenticates again within a session (step-up, RFC 9470). The session and its refresh token stay;
//! its claims are updated.

use super::{
    Auth, AuthError, RequestContext, SecondFactor,
    claimant::Claimant,
    factor_attempts::JudgedFactor,
    issue::{Grant, TokenPair},
    throttle::{Admitted, Caller},
    write_locks::Writer,
};
use crate::{
    domain::{Password, SessionClaims, SessionId, UserId},
    secret::Secret,
    store::{AuditKind, ChallengeUse, ClaimsRenewal, FactorProof, RenewedSession},
    tokens::{Challenge, ChallengePurpose},
};

/// What the user proves.
pub enum ReauthenticationProof {
    /// The password.
    Password(Password),
    /// A second factor. With a passkey comes the challenge that it answers.
    Factor(SecondFactor, Option<Secret<String>>),
}

/// A validated Reauthenticate request.
pub struct ReauthenticateCommand {
    /// The caller.
    pub user_id: UserId,
    /// The caller's session.
    pub session_id: SessionId,
    /// What is proved.
    pub proof: ReauthenticationProof,
}

/// A proof that is right, and what it uses up.
struct Renewal {
    claims: SessionClaims,
    proof: Option<FactorProof>,
}

impl Auth {
    /// Gives the session new claims for a right proof, and returns its tokens.
    ///
    /// Wrong passwords are counted for each session, as those of a change of password: a stolen access token allows neither
    /// unlimited guesses nor delaying the user's logins. Wrong factors are counted for all sessions of the user together,
    /// and no right password clears them: who knows the password would otherwise guess codes without end.
    ///
    /// # Errors
    /// [`AuthError::InvalidCredentials`], [`AuthError::SecondFactorInvalid`], [`AuthError::AccountThrottled`],
    /// [`AuthError::UserNotFound`], [`AuthError::TokenRevoked`], [`AuthError::Overloaded`],
    /// [`AuthError::DatabaseUnavailable`].
    pub async fn reauthenticate(
        &self,
        command: ReauthenticateCommand,
        context: &RequestContext,
    ) -> Result<TokenPair, AuthError> {
        let ReauthenticateCommand {
            user_id,
            session_id,
            proof,
        } = command;
        // One user has one attempt under way, and so one place in the hashing queue.
        let locks = &self.locks.password_changes;
        let lock = locks.lock(user_id, Writer::User, context.deadline);
        let _lock = lock.await?;
        let current = self.parts.store.find_session(session_id).await?;
        // Lost by a restored backup: whoever holds its token logs in again.
        let current = current.ok_or(AuthError::TokenRevoked)?.claims;
        let context = context.clone();
        self.in_attempt(&context.clone(), move |auth, mut caller| async move {
            match proof {
                ReauthenticationProof::Password(password) => {
                    let claimant = Claimant::Session(user_id, session_id);
                    let attempt = auth.begin_attempt(&claimant, &mut caller).await?;
                    if !attempt.has_user() {
                        return Err(AuthError::UserNotFound);
                    }
                    let proven = auth.judge(attempt, password, &mut caller).await?;
                    let renewal = Renewal {
                        claims: current.with_password(auth.parts.clock.now()),
                        proof: None,
                    };
                    auth.renew((user_id, session_id), renewal, &proven.admitted, &context)
                        .await
                }
                ReauthenticationProof::Factor(factor, token) => {
                    let claimant = Claimant::StepUp(user_id, session_id);
                    let open = |token| auth.open_challenge(ChallengePurpose::PasskeyLogin, token);
                    let challenge = token.as_ref().map(open).transpose()?;
                    let (judged, admitted) = auth
                        .judge_in_session(
                            &claimant,
                            &factor,
                            challenge.as_ref(),
                            &mut caller,
                            &context,
                        )
                        .await?;
                    let renewal = Renewal {
                        claims: judged.renewed_claims(&current, auth.parts.clock.now()),
                        proof: Some(FactorProof {
                            challenge: challenge.as_ref().map(ChallengeUse::from),
                            factor: judged.factor,
                        }),
                    };
                    auth.renew((user_id, session_id), renewal, &admitted, &context)
                        .await
                }
            }
        })
        .await
    }

    /// Admits and judges a second factor of a user within a session. A wrong one is counted before this returns.
    async fn judge_in_session(
        &self,
        claimant: &Claimant,
        factor: &SecondFactor,
        challenge: Option<&Challenge>,
        caller: &mut Caller,
        context: &RequestContext,
    ) -> Result<(JudgedFactor, Admitted), AuthError> {
        let (found, (), admitted) = self.admit(claimant, caller, || Ok(())).await?;
        let Some(found) = found else {
            self.release(&admitted).await;
            return Err(AuthError::UserNotFound);
        };
        match self.judge_factor(&found, factor, challenge, context).await {
            Ok(Some(judged)) => Ok((judged, admitted)),
            Ok(None) => {
                let challenge = challenge.map(ChallengeUse::from);
                let who = (Some(found.user.id), claimant.session());
                let counted = self.count_wrong_factor(&admitted, challenge.as_ref(), who, context);
                Err(counted.await?)
            }
            Err(error) => {
                self.release(&admitted).await;
                Err(error)
            }
        }
    }

    /// Stores the session's new claims and issues its tokens. A proof that was used before counts as wrong.
    async fn renew(
        &self,
        ids: (UserId, SessionId),
        renewal: Renewal,
        admitted: &Admitted,
        context: &RequestContext,
    ) -> Result<TokenPair, AuthError> {
        let (user, session) = (Some(ids.0), Some(ids.1));
        let challenge = renewal.proof.as_ref().and_then(|proof| proof.challenge);
        match self.renew_stored(ids, renewal, admitted, context).await {
            Ok(Some(tokens)) => Ok(tokens),
            Ok(None) => {
                let (challenge, who) = (challenge.as_ref(), (user, session));
                let counted = self.count_wrong_factor(admitted, challenge, who, context);
                Err(counted.await?)
            }
            Err(refusal) => {
                self.note_refusal(&refusal, user, session, context);
                self.release(admitted).await;
                Err(refusal)
            }
        }
    }

    /// The tokens with the new claims; `None` when what the proof uses up was used before.
    async fn renew_stored(
        &self,
        (user_id, session_id): (UserId, SessionId),
        renewal: Renewal,
        admitted: &Admitted,
        context: &RequestContext,
    ) -> Result<Option<TokenPair>, AuthError> {
        let Renewal { mut claims, proof } = renewal;
        let locks = &self.locks.users;
        let _lock = locks.lock(user_id, Writer::User, context.deadline).await?;
        let event = context.audit_event(AuditKind::Reauthenticated, claims.authenticated_at);
        let renewal = ClaimsRenewal {
            user_id,
            session_id,
            claims: &claims,
            proof: proof.as_ref(),
            clearing: self.clearing(admitted),
        };
        let store = &self.parts.store;
        match store.renew_session_claims(renewal, &event).await? {
            RenewedSession::Renewed {
                generation,
                expires_at,
                issued_after,
                roles,
            } => {
                claims.issued_after = issued_after;
                let grant = Grant {
                    user_id,
                    roles: &roles,
                    session_id,
                    generation,
                    refresh_expires_at: expires_at,
                    claims: &claims,
                    narrowed: None,
                };
                self.issue_pair(&grant, self.parts.clock.now()).map(Some)
            }
            RenewedSession::ProofRefused => Ok(None),
            RenewedSession::Throttled(counter) => Err(self.throttled(counter)),
            RenewedSession::Ended => Err(AuthError::TokenRevoked),
        }
    }
}

//! CompleteLogin: the second half of a login whose user has a second factor. Between the two halves there is a challenge and
//! no session; nothing is stored before the challenge is answered.

use super::{
    Auth, AuthError, LoggedIn, RequestContext, SecondFactor,
    claimant::Claimant,
    login_challenge::LoginChallenge,
    throttle::{Caller, Proven},
};
use crate::{
    domain::{DeviceLabel, FactorKind, Session},
    secret::Secret,
    store::{ChallengeUse, FactorProof, UserCredentials},
    tokens::{CHALLENGE_TTL, Challenge, ChallengePurpose, NewChallenge, PendingLogin},
};

/// A validated CompleteLogin request.
pub struct CompleteLoginCommand {
    /// The token of the challenge.
    pub challenge_token: Secret<String>,
    /// What the user proves.
    pub proof: SecondFactor,
}

impl From<&Challenge> for ChallengeUse {
    fn from(challenge: &Challenge) -> Self {
        Self {
            id: challenge.id,
            expires_at: challenge.expires_at,
        }
    }
}

impl Auth {
    /// The challenge of a login whose password was right. The password's counter keeps its failures. `None` when another
    /// hash is stored since: another login renewed it, or the password was changed, so it has to be judged again.
    pub(super) async fn challenge(
        &self,
        proven: Proven,
        device_label: DeviceLabel,
        audiences: Option<Vec<String>>,
    ) -> Result<Option<LoginChallenge>, AuthError> {
        // The next attempt need not wait for the end of a trial.
        self.release(&proven.admitted).await;
        let parts = &self.parts;
        let hash = match &proven.rehashed {
            None => proven.verified_hash.clone(),
            Some(renewed) => {
                let (id, old, new) = (proven.user.id, &proven.verified_hash, renewed.as_str());
                if !parts.store.renew_password_hash(id, old, new).await? {
                    return Ok(None);
                }
                new.to_owned()
            }
        };
        let now = parts.clock.now();
        let Proven {
            user,
            is_breached,
            factors,
            admitted,
            ..
        } = proven;
        let challenge = parts.derived_keys.new_challenge(NewChallenge {
            purpose: ChallengePurpose::Login,
            user_id: Some(user.id),
            now,
            expires_at: now + CHALLENGE_TTL,
            bound_to: Some(&hash),
            login: Some(PendingLogin {
                counter: admitted.key.name.clone(),
                device_id: admitted.device,
                device_label,
                audiences,
                is_breached,
            }),
        });
        let request_options = match factors.has(FactorKind::Passkey) {
            true => self.passkey_request_options(&challenge, user.id).await?,
            false => String::new(),
        };
        Ok(Some(LoginChallenge {
            token: parts.derived_keys.challenge_token(&challenge),
            factor_kinds: factors,
            request_options,
            expires_at: challenge.expires_at,
        }))
    }

    /// Answers a challenge and opens the session.
    ///
    /// # Errors
    /// [`AuthError::SecondFactorInvalid`], [`AuthError::AccountThrottled`], [`AuthError::Overloaded`],
    /// [`AuthError::DatabaseUnavailable`].
    pub async fn complete_login(
        &self,
        command: CompleteLoginCommand,
        context: &RequestContext,
    ) -> Result<LoggedIn, AuthError> {
        let CompleteLoginCommand {
            challenge_token,
            proof,
        } = command;
        let challenge = self.open_challenge(ChallengePurpose::Login, &challenge_token)?;
        let context = context.clone();
        self.in_attempt(&context.clone(), |auth, caller| async move {
            auth.complete(challenge, proof, &context, caller).await
        })
        .await
    }

    async fn complete(
        &self,
        challenge: Challenge,
        proof: SecondFactor,
        context: &RequestContext,
        mut caller: Caller,
    ) -> Result<LoggedIn, AuthError> {
        let (Some(user_id), Some(login)) = (challenge.user_id, challenge.login.clone()) else {
            return Err(AuthError::SecondFactorInvalid);
        };
        let claimant = Claimant::Challenged(user_id, login.clone());
        let (found, (), admitted) = self.admit(&claimant, &mut caller, || Ok(())).await?;
        let used = ChallengeUse::from(&challenge);
        let found = found.filter(|found| self.is_open(&challenge, found));
        let judged = match &found {
            None => Ok(None),
            Some(found) => {
                self.judge_factor(found, &proof, Some(&challenge), context)
                    .await
            }
        };
        let (found, judged) = match (judged, found) {
            (Ok(Some(judged)), Some(found)) => (found, judged),
            (Ok(_), _) => {
                let who = (Some(user_id), None);
                let counted = self.count_wrong_factor(&admitted, Some(&used), who, context);
                return Err(counted.await?);
            }
            (Err(error), _) => {
                self.release(&admitted).await;
                return Err(error);
            }
        };
        let proven = Proven {
            user: found.user,
            verified_hash: found.password_hash,
            rehashed: None,
            is_breached: login.is_breached,
            factors: found.factors,
            admitted,
        };
        let PendingLogin {
            device_label,
            audiences,
            ..
        } = login;
        let opened = self.new_session(&proven.user, device_label, audiences.clone(), context);
        let session = Session {
            claims: judged.claims_with_password(opened.created_at, audiences),
            ..opened
        };
        let proof = FactorProof {
            challenge: Some(used),
            factor: judged.factor,
        };
        self.open_with_factor(proven, session, &proof, context)
            .await
    }

    /// Opens a session for a proof that was found right, and uses it up. One that was used before counts as wrong.
    pub(super) async fn open_with_factor(
        &self,
        mut proven: Proven,
        mut session: Session,
        proof: &FactorProof,
        context: &RequestContext,
    ) -> Result<LoggedIn, AuthError> {
        match self.open(&proven, &session, Some(proof), context).await {
            Ok(Some((roles, issued_after))) => {
                proven.user.roles = roles;
                session.claims.issued_after = issued_after;
                self.logged_in(proven, &session)
            }
            // The password was changed, or the user disabled, since the challenge was made.
            Ok(None) => {
                let refusal = AuthError::SecondFactorInvalid;
                self.note_refusal(&refusal, Some(proven.user.id), None, context);
                Err(refusal)
            }
            Err(AuthError::SecondFactorInvalid) => {
                let (challenge, who) = (proof.challenge.as_ref(), (Some(proven.user.id), None));
                let counted = self.count_wrong_factor(&proven.admitted, challenge, who, context);
                Err(counted.await?)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the challenge can still be answered: nothing about the user's password has changed since.
    fn is_open(&self, challenge: &Challenge, found: &UserCredentials) -> bool {
        let keys = &self.parts.derived_keys;
        found.user.disabled_at.is_none()
            && keys.is_challenge_bound_to(challenge, &found.password_hash)
    }
}

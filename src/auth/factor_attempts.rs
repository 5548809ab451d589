//! Verifies the proof of a second factor. Codes and challenges are consumed later, in the transaction that the proof
//! authorises.

use super::{Auth, AuthError, RequestContext, throttle::Admitted};
use crate::{
    clock::Timestamp,
    domain::{SessionClaims, SessionId, UserId},
    factors::{RecoveryCode, TotpCode, TotpSecret},
    store::{AuditEvent, AuditKind, ChallengeUse, FactorUse, UserCredentials},
    tokens::{Challenge, UnsealError},
};

/// What a user proves.
pub enum SecondFactor {
    /// A code of the authenticator app.
    Totp(TotpCode),
    /// A recovery code.
    RecoveryCode(RecoveryCode),
    /// What a passkey answered, in JSON.
    Passkey(String),
}

/// A proof that is right as far as can be said before anything is used up.
pub(super) struct JudgedFactor {
    /// What it uses up.
    pub(super) factor: FactorUse,
    /// For a passkey: whether its device keeps the key. `None` for a code.
    pub(super) is_hardware_bound: Option<bool>,
}

impl JudgedFactor {
    /// The claims of a session that is opened at `now` by a password and this proof.
    pub(super) fn claims_with_password(
        &self,
        now: Timestamp,
        audiences: Option<Vec<String>>,
    ) -> SessionClaims {
        match self.is_hardware_bound {
            None => SessionClaims::of_password_and_code(now, audiences),
            Some(is_hardware_bound) => {
                SessionClaims::of_passkey(now, audiences, is_hardware_bound, true)
            }
        }
    }

    /// The claims of a session inside which this was proved at `now`.
    pub(super) fn renewed_claims(&self, current: &SessionClaims, now: Timestamp) -> SessionClaims {
        match self.is_hardware_bound {
            None => current.with_code(now),
            Some(is_hardware_bound) => {
                let audiences = current.audiences.clone();
                SessionClaims::of_passkey(now, audiences, is_hardware_bound, false)
            }
        }
    }
}

/// Who gave a wrong proof, and within which session, if within one.
pub(super) type FailureOwner = (Option<UserId>, Option<SessionId>);

impl Auth {
    /// Judges a proof of this user. `None`: it is wrong.
    ///
    /// # Errors
    /// It could not be judged: [`AuthError::Internal`], [`AuthError::DatabaseUnavailable`].
    pub(super) async fn judge_factor(
        &self,
        found: &UserCredentials,
        proof: &SecondFactor,
        challenge: Option<&Challenge>,
        context: &RequestContext,
    ) -> Result<Option<JudgedFactor>, AuthError> {
        let parts = &self.parts;
        let now = parts.clock.now();
        let user = found.user.id;
        let factor = match proof {
            SecondFactor::Totp(code) => self.judge_totp(found, code, now)?,
            SecondFactor::RecoveryCode(code) => (!found.factors.is_empty()).then(|| {
                let event = AuditEvent {
                    user_id: Some(user),
                    ..context.audit_event(AuditKind::RecoveryCodeUsed, now)
                };
                FactorUse::RecoveryCode {
                    macs: code.macs(&parts.derived_keys, user),
                    event,
                }
            }),
            SecondFactor::Passkey(response) => {
                let Some(challenge) = challenge else {
                    return Ok(None);
                };
                return self.judge_passkey(challenge, &found.user, response).await;
            }
        };
        Ok(factor.map(|factor| JudgedFactor {
            factor,
            is_hardware_bound: None,
        }))
    }

    fn judge_totp(
        &self,
        found: &UserCredentials,
        code: &TotpCode,
        now: Timestamp,
    ) -> Result<Option<FactorUse>, AuthError> {
        let Some(totp) = &found.totp else {
            return Ok(None);
        };
        let keys = &self.parts.derived_keys;
        let secret = TotpSecret::open(keys, totp.id, &totp.sealed_secret, totp.sealed_by);
        let secret = secret.map_err(|error: UnsealError| {
            let cause = format!("factor {}: {error}", totp.id);
            match keys.of_version(totp.sealed_by) {
                Some(_) => AuthError::Internal(cause),
                None => AuthError::DatabaseUnavailable(format!(
                    "{cause}: master key v{} is not in COUNTERSIGN_MASTER_KEYS here",
                    totp.sealed_by
                )),
            }
        })?;
        let step = secret.matching_step(code, now, Some(totp.last_used_step));
        Ok(step.map(|step| FactorUse::Totp { id: totp.id, step }))
    }

    /// Counts a wrong proof, for the challenge and on the counter that admitted it, and notes it. Returns the answer for
    /// the caller.
    pub(super) async fn count_wrong_factor(
        &self,
        admitted: &Admitted,
        challenge: Option<&ChallengeUse>,
        (user, session): FailureOwner,
        context: &RequestContext,
    ) -> Result<AuthError, AuthError> {
        if let Some(challenge) = challenge {
            self.parts.store.count_wrong_answer(challenge).await?;
        }
        let refusal = match self.count_failure(admitted).await? {
            AuthError::InvalidCredentials => AuthError::SecondFactorInvalid,
            throttled => throttled,
        };
        self.note_refusal(&refusal, user, session, context);
        Ok(refusal)
    }
}

//! The enrollment of an authenticator app: a secret is made and shown, and stored once the app has shown a right code.

use super::{AddedFactor, Auth, AuthError, RequestContext, factors::ProvedFactor};
use crate::{
    clock::Timestamp,
    domain::{FactorId, FactorKind},
    factors::{
        ENROLLMENT_TTL, TotpCode, TotpSecret, enrollment_token, otpauth_uri, parse_enrollment_token,
    },
    secret::Secret,
    store::StoredTotp,
    tokens::AccessClaims,
};

/// An enrollment that has begun. Nothing of it is stored.
pub struct TotpEnrollment {
    /// The secret in base32.
    pub secret: Secret<String>,
    /// The same for a QR code.
    pub otpauth_uri: Secret<String>,
    /// For the confirmation.
    pub token: Secret<String>,
}

impl Auth {
    /// Makes the secret of an authenticator app.
    ///
    /// # Errors
    /// [`AuthError::StepUpRequired`], [`AuthError::FactorExists`], [`AuthError::UserNotFound`],
    /// [`AuthError::DatabaseUnavailable`].
    pub async fn begin_totp_enrollment(
        &self,
        claims: &AccessClaims,
    ) -> Result<TotpEnrollment, AuthError> {
        let caller = self.judged_caller(claims).await?;
        if caller.factors.has(FactorKind::Totp) {
            return Err(AuthError::FactorExists);
        }
        let parts = &self.parts;
        let user = self.users().find(claims.user_id).await?;
        let secret = TotpSecret::generate();
        let expires_at = parts.clock.now() + ENROLLMENT_TTL;
        let issuer = &parts.settings.factors.totp_issuer;
        Ok(TotpEnrollment {
            secret: secret.to_base32(),
            otpauth_uri: otpauth_uri(&secret, issuer, user.email.as_str()),
            token: enrollment_token(&parts.derived_keys, user.id, &secret, expires_at),
        })
    }

    /// Adds the authenticator app that shows a right code for the secret of the token.
    ///
    /// The code is no guess at a secret: whoever has the token was shown the secret. So it is counted nowhere.
    ///
    /// # Errors
    /// [`AuthError::OneTimeTokenInvalid`], [`AuthError::SecondFactorInvalid`], and those of
    /// [`begin_totp_enrollment`](Self::begin_totp_enrollment).
    pub async fn confirm_totp_enrollment(
        &self,
        claims: &AccessClaims,
        token: &str,
        code: &TotpCode,
        context: &RequestContext,
    ) -> Result<AddedFactor, AuthError> {
        let caller = self.judged_caller(claims).await?;
        let parts = &self.parts;
        let (keys, now) = (&parts.derived_keys, parts.clock.now());
        let secret = parse_enrollment_token(keys, claims.user_id, token, now)
            .ok_or_else(|| self.refused_token(token, AuthError::OneTimeTokenInvalid))?;
        // Its step is used up by the confirmation.
        let step = secret
            .matching_step(code, now, None)
            .ok_or(AuthError::SecondFactorInvalid)?;
        let totp = ProvedFactor::Totp(self.sealed(&secret, step, now));
        self.add_factor(
            caller,
            totp,
            None,
            |current| current.with_code(now),
            context,
        )
        .await
    }

    fn sealed(&self, secret: &TotpSecret, step: i64, now: Timestamp) -> StoredTotp {
        let id = FactorId::generate(now);
        let (sealed_secret, sealed_by) = secret.seal(&self.parts.derived_keys, id);
        StoredTotp {
            id,
            sealed_secret,
            sealed_by,
            last_used_step: step,
            created_at: now,
            last_used_at: None,
        }
    }
}

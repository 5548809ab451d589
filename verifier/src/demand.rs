//! What a service requires of a token, in addition to its validity.

use std::time::Duration;

use crate::{VerifyError, claims::Claims, clock::UnixMillis};

/// What a method or a route demands of a token. The default demands nothing more than a valid token for this service.
///
/// ```
/// use countersign_verifier::Demand;
///
/// let demand = Demand::new().role("billing").max_auth_age(std::time::Duration::from_secs(600));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    pub(crate) audience: Option<String>,
    pub(crate) required_roles: Vec<String>,
    pub(crate) max_auth_age: Option<Duration>,
    pub(crate) acceptable_acrs: Vec<String>,
    pub(crate) certificate_sha256: Option<[u8; 32]>,
}

impl Demand {
    /// Demands only a valid token.
    pub fn new() -> Self {
        Self::default()
    }

    /// The token must be meant for this audience, and not only for any of the verifier's.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// The token must hold this role, and every other that was demanded before.
    pub fn role(mut self, role: impl Into<String>) -> Self {
        self.required_roles.push(role.into());
        self
    }

    /// The subject must have proved who it is within this time, in whole seconds (RFC 9470 section 3). A token without `auth_time` does not meet it.
    pub fn max_auth_age(mut self, age: Duration) -> Self {
        self.max_auth_age = Some(age);
        self
    }

    /// The token's `acr` must be this one or another that was accepted before (RFC 9470 section 3).
    pub fn acceptable_acr(mut self, acr: impl Into<String>) -> Self {
        self.acceptable_acrs.push(acr.into());
        self
    }

    /// The SHA-256 of the client certificate (its DER form) by which the caller connected. A token that is bound to a certificate
    /// is good with that one only (RFC 8705 section 3).
    pub fn client_certificate_sha256(mut self, hash: [u8; 32]) -> Self {
        self.certificate_sha256 = Some(hash);
        self
    }

    /// Judges a token whose signature, expiry and revocation have been checked.
    pub(crate) fn check(&self, claims: &Claims, now: UnixMillis) -> Result<(), VerifyError> {
        let audience = self.audience.as_ref();
        if audience.is_some_and(|audience| !claims.audiences.contains(audience)) {
            return Err(VerifyError::TokenInvalid);
        }
        if claims.certificate_sha256.is_some()
            && claims.certificate_sha256 != self.certificate_sha256
        {
            return Err(VerifyError::TokenInvalid);
        }
        if !self.required_roles.iter().all(|role| claims.has_role(role)) {
            return Err(VerifyError::InsufficientRole);
        }
        if !self.is_login_recent(claims, now) || !self.is_login_strong(claims) {
            return Err(VerifyError::StepUpRequired);
        }
        Ok(())
    }

    fn is_login_recent(&self, claims: &Claims, now: UnixMillis) -> bool {
        self.max_auth_age.is_none_or(|most| {
            let at = claims.authenticated_at;
            at.is_some_and(|at| now.floor_to_second().since(at).as_secs() <= most.as_secs())
        })
    }

    fn is_login_strong(&self, claims: &Claims) -> bool {
        let acr = claims.acr.as_ref();
        self.acceptable_acrs.is_empty() || acr.is_some_and(|acr| self.acceptable_acrs.contains(acr))
    }
}

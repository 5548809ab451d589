//! Validates an access token: the call that internal services make on every request.
//!
//! It is not `async`: it uses only what is in memory, never the database, and holds no lock for longer than a
//! look-up.

use std::{sync::Arc, time::Duration};

use super::{Auth, AuthError, AuthSettings};
use crate::{
    clock::{Timestamp, monotonic_now},
    domain::{SessionClaims, UserId},
    tokens::{AccessClaims, AccessProfile, AccessTokenError, VerifiedClaims},
};

/// A request to validate an access token.
#[derive(Clone, Copy, Debug)]
pub struct ValidateQuery<'a> {
    /// The token; empty when there is none.
    pub access_token: &'a str,
    /// The audience it must be issued for; empty for any that this service issues for.
    pub audience: &'a str,
    /// The roles it must hold, all of them.
    pub required_roles: &'a [String],
    /// How long ago the user may have been authenticated; `None` for any time.
    pub max_auth_age: Option<Duration>,
    /// The values of `acr` of which it must have one; none for any.
    pub acceptable_acrs: &'a [String],
    /// The client certificate that it came with.
    pub certificate: ClientCertificate,
}

/// The client certificate with which a token was presented. A token that is bound to one is good with no other (RFC 8705
/// section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// None.
    Absent,
    /// The one with this SHA-256 of its DER form.
    Sha256([u8; 32]),
    /// Whoever asks compares it: the answer tells the binding (RFC 8705 section 3.2).
    ComparedByCaller,
}

impl From<Option<[u8; 32]>> for ClientCertificate {
    fn from(sha256: Option<[u8; 32]>) -> Self {
        sha256.map_or(Self::Absent, Self::Sha256)
    }
}

/// What a token is presented for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Anything that its claims allow.
    Full,
    /// The enrollment of a second factor: a token that is good for nothing else will do.
    Enrollment,
}

/// A valid token.
#[derive(Clone, Debug)]
pub struct Validated {
    /// Its claims.
    pub claims: Arc<VerifiedClaims>,
    /// Up to when every revocation is known here.
    pub revocation_as_of: Timestamp,
}

impl Auth {
    /// Checks that an access token is valid.
    ///
    /// # Errors
    /// [`AuthError::TokenMissing`], [`AuthError::TokenInvalid`], [`AuthError::TokenExpired`],
    /// [`AuthError::TokenRevoked`], [`AuthError::InsufficientRole`], [`AuthError::StepUpRequired`],
    /// [`AuthError::RevocationStateStale`]; [`AuthError::DatabaseUnavailable`] for a token of an unknown
    /// key while keys have not been read for too long.
    pub fn validate(&self, query: ValidateQuery<'_>) -> Result<Validated, AuthError> {
        self.validate_for(Use::Full, query)
    }

    /// Checks an access token for a call that enrolls a second factor: one that is good for nothing else will do.
    ///
    /// # Errors
    /// Those of [`Auth::validate`].
    pub fn validate_for_enrollment(
        &self,
        access_token: &str,
    ) -> Result<Arc<VerifiedClaims>, AuthError> {
        // No user's token is bound to a certificate.
        let query = ValidateQuery::any_use_of(access_token, ClientCertificate::Absent);
        let validated = self.validate_for(Use::Enrollment, query)?;
        Ok(validated.claims)
    }

    fn validate_for(&self, purpose: Use, query: ValidateQuery<'_>) -> Result<Validated, AuthError> {
        let parts = &self.parts;
        if query.access_token.is_empty() {
            return Err(AuthError::TokenMissing);
        }
        let now = parts.clock.now();
        let claims = self.verified_claims(purpose, query.access_token, now)?;
        // The time of the last read is taken before the look-up, and its age afterwards: if a read comes in between, or
        // this process is suspended, an old answer does not look fresh.
        let last_read = parts.revocations.last_read();
        if parts.revocations.is_revoked(&claims) {
            return Err(AuthError::TokenRevoked);
        }
        let monotonic = parts.clock.monotonic();
        parts
            .settings
            .check_staleness(last_read.staleness(monotonic))?;
        check_certificate(&claims, query.certificate)?;
        check_audience_and_roles(&claims, &query)?;
        check_authentication(&claims, &query, now)?;
        parts.passwords.leave_a_core_free(monotonic_now());
        Ok(Validated {
            claims,
            revocation_as_of: last_read.as_of(now, monotonic),
        })
    }

    /// Whose token it is, if it is good as far as is known here, however old that knowledge is.
    ///
    /// # Errors
    /// [`AuthError::TokenMissing`], [`AuthError::TokenInvalid`], [`AuthError::TokenExpired`],
    /// [`AuthError::TokenRevoked`]; [`AuthError::DatabaseUnavailable`] as in [`Auth::validate`].
    pub(super) fn user_of(&self, access_token: &str) -> Result<UserId, AuthError> {
        if access_token.is_empty() {
            return Err(AuthError::TokenMissing);
        }
        let claims = self.verified_claims(Use::Full, access_token, self.parts.clock.now())?;
        match self.parts.revocations.is_revoked(&claims) {
            true => Err(AuthError::TokenRevoked),
            false => Ok(claims.user_id),
        }
    }

    /// The issuer that tokens name.
    pub fn issuer(&self) -> &str {
        &self.parts.profile.issuer
    }

    fn verified_claims(
        &self,
        purpose: Use,
        token: &str,
        now: Timestamp,
    ) -> Result<Arc<VerifiedClaims>, AuthError> {
        let parts = &self.parts;
        // First of all: an attacker chooses how many megabytes are hashed.
        if token.len() > AccessProfile::MAX_TOKEN_LENGTH {
            return Err(AuthError::TokenInvalid);
        }
        // Before anything is verified: see `VerifiedTokens::insert`.
        let epoch = parts.keyring.epoch();
        if let Some(claims) = parts.verified.get(token, epoch) {
            parts.profile.check_expiry(&claims, now)?;
            return Ok(claims);
        }
        let claims = parts.profile.verify(&parts.keyring, token, now)?;
        // An expired token is not cached: the cache is for tokens that are presented again.
        parts.profile.check_expiry(&claims, now)?;
        let claims = Arc::new(VerifiedClaims::new(claims));
        if claims.is_for_enrollment() {
            // It is not cached, so what is cached need not be asked for this.
            return self.enrollment_only(purpose, claims);
        }
        parts.verified.insert(token, Arc::clone(&claims), epoch);
        Ok(claims)
    }

    /// The claims of a token that is good for enrolling alone. Another factor helps only while the session lives.
    fn enrollment_only(
        &self,
        purpose: Use,
        claims: Arc<VerifiedClaims>,
    ) -> Result<Arc<VerifiedClaims>, AuthError> {
        match purpose {
            Use::Enrollment => Ok(claims),
            Use::Full if self.parts.revocations.is_revoked(&claims) => Err(AuthError::TokenRevoked),
            Use::Full => Err(AuthError::StepUpRequired {
                acr_values: SessionClaims::acrs_of_two_factors(),
                max_age: None,
            }),
        }
    }
}

impl<'a> ValidateQuery<'a> {
    /// A query for whatever the token is good for.
    pub const fn any_use_of(access_token: &'a str, certificate: ClientCertificate) -> Self {
        Self {
            access_token,
            audience: "",
            required_roles: &[],
            max_auth_age: None,
            acceptable_acrs: &[],
            certificate,
        }
    }
}

impl AuthSettings {
    /// Whether revocations are known freshly enough.
    ///
    /// # Errors
    /// [`AuthError::RevocationStateStale`].
    pub(super) fn check_staleness(&self, staleness: Duration) -> Result<(), AuthError> {
        match self.reject_when_stale && staleness > self.max_staleness {
            true => Err(AuthError::RevocationStateStale),
            false => Ok(()),
        }
    }
}

impl From<AccessTokenError> for AuthError {
    fn from(error: AccessTokenError) -> Self {
        match error {
            AccessTokenError::Invalid => Self::TokenInvalid,
            AccessTokenError::Expired => Self::TokenExpired,
            AccessTokenError::KeyUnknown => Self::DatabaseUnavailable(error.to_string()),
        }
    }
}

fn check_certificate(
    claims: &AccessClaims,
    certificate: ClientCertificate,
) -> Result<(), AuthError> {
    let is_good = match (claims.certificate_sha256, certificate) {
        (None, _) | (_, ClientCertificate::ComparedByCaller) => true,
        (Some(_), ClientCertificate::Absent) => false,
        (Some(bound), ClientCertificate::Sha256(presented)) => bound == presented,
    };
    is_good.then_some(()).ok_or(AuthError::TokenInvalid)
}

fn check_audience_and_roles(
    claims: &AccessClaims,
    query: &ValidateQuery<'_>,
) -> Result<(), AuthError> {
    let audience = query.audience;
    if !audience.is_empty() && !claims.audiences.iter().any(|aud| aud == audience) {
        return Err(AuthError::TokenInvalid);
    }
    if query
        .required_roles
        .iter()
        .all(|role| claims.roles.contains(role))
    {
        Ok(())
    } else {
        Err(AuthError::InsufficientRole)
    }
}

/// Whether the user was authenticated lately enough and well enough (RFC 9470). A token that does not say when or how was
/// not.
fn check_authentication(
    claims: &AccessClaims,
    query: &ValidateQuery<'_>,
    now: Timestamp,
) -> Result<(), AuthError> {
    let is_recent = |max_age| is_recent(claims, max_age, now);
    let is_strong = query.acceptable_acrs.is_empty() || query.acceptable_acrs.contains(&claims.acr);
    if query.max_auth_age.is_none_or(is_recent) && is_strong {
        return Ok(());
    }
    Err(AuthError::StepUpRequired {
        acr_values: query.acceptable_acrs.join(" "),
        max_age: query.max_auth_age,
    })
}

/// Whether the user was authenticated at most so long ago. `auth_time` is in whole seconds, and a replica's clock may be
/// ahead.
pub(super) fn is_recent(claims: &AccessClaims, max_age: Duration, now: Timestamp) -> bool {
    let age = claims
        .authenticated_at
        .map(|at| now.floor_to_second().since(at));
    age.is_some_and(|age| age.as_secs() <= max_age.as_secs())
}

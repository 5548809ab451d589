//! Who must have a second factor, and how recent and strong the authentication must be to change factors.

use std::time::Duration;

use super::{Auth, AuthError, AuthSettings, validate::is_recent};
use crate::{
    config::SecondFactorPolicy,
    domain::{FactorKinds, Roles, SessionClaims},
    store::ChangeRefused,
    tokens::AccessClaims,
};

/// How long ago a user may have been authenticated who adds or removes a factor.
const MAX_AUTH_AGE: Duration = Duration::from_secs(600);

impl AuthSettings {
    /// Whether a user with these roles must have a second factor, and the session has proved none. The roles are those of
    /// the token that is about to be signed, so a user who becomes an administrator must at the next refresh.
    pub(super) fn must_prove_factor(&self, roles: &Roles, claims: &SessionClaims) -> bool {
        let is_required = match self.factors.required {
            SecondFactorPolicy::Off => false,
            SecondFactorPolicy::Admins => roles.names().any(|role| role == "admin"),
            SecondFactorPolicy::All => true,
        };
        is_required && SessionClaims::is_one_factor(claims.acr())
    }
}

impl Auth {
    /// Checks that the caller was authenticated lately, and if the caller has a factor then by two: else a stolen password
    /// and a stolen access token together would be enough to remove it.
    ///
    /// # Errors
    /// [`AuthError::StepUpRequired`].
    pub(super) fn require_recent_authentication(
        &self,
        claims: &AccessClaims,
        factors: FactorKinds,
    ) -> Result<(), AuthError> {
        let is_strong = factors.is_empty() || !SessionClaims::is_one_factor(&claims.acr);
        if is_strong && is_recent(claims, MAX_AUTH_AGE, self.parts.clock.now()) {
            return Ok(());
        }
        Err(step_up(factors))
    }
}

impl From<ChangeRefused> for AuthError {
    fn from(refused: ChangeRefused) -> Self {
        match refused {
            ChangeRefused::NoUser => Self::UserNotFound,
            ChangeRefused::SessionEnded => Self::TokenRevoked,
            ChangeRefused::FactorsChanged(now) => step_up(now),
        }
    }
}

/// What a user with these factors must prove who changes them.
fn step_up(factors: FactorKinds) -> AuthError {
    let acr_values = match factors.is_empty() {
        true => String::new(),
        false => SessionClaims::acrs_of_two_factors(),
    };
    AuthError::StepUpRequired {
        acr_values,
        max_age: Some(MAX_AUTH_AGE),
    }
}

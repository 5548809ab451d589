//! Maps failures of use cases to OAuth errors (RFC 6749 section 5.2, RFC 8693 section 2.2.2, RFC 8707 section 2).

use std::{
    sync::{LazyLock, Mutex},
    time::Duration,
};

use super::error::OAuthError;
use crate::{
    auth::{AuthError, CredentialRefusal},
    telemetry::{LimitRefusal, LogLimit},
    workloads::issuers::RefusalCause,
};

/// When to ask again where nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(1);

const NOT_ACCEPTED: &str = "the client credential is not accepted";

impl OAuthError {
    /// The one answer to a credential that is not accepted.
    pub(super) const fn not_accepted() -> Self {
        Self::invalid_client(NOT_ACCEPTED)
    }

    /// A token of an exchange is not accepted (RFC 8693 section 2.2.2).
    pub(super) const fn token_not_accepted() -> Self {
        Self::invalid_request("subject_token or actor_token is not accepted")
    }

    /// Why no token was issued to a client.
    pub(super) fn of_issue(error: AuthError) -> Self {
        match error {
            AuthError::ClientCredentialInvalid(CredentialRefusal::Assertion(cause)) => {
                Self::invalid_client(hint(cause))
            }
            AuthError::ClientCredentialInvalid(CredentialRefusal::Hidden(cause)) => {
                log_refusal(cause);
                Self::not_accepted()
            }
            AuthError::InvalidFields(_) => {
                Self::invalid_target("the service account does not have this audience")
            }
            other => Self::of_all(other),
        }
    }

    /// Why a token was not exchanged.
    pub(super) fn of_exchange(error: AuthError) -> Self {
        match error {
            AuthError::ClientCredentialInvalid(_) => Self::token_not_accepted(),
            AuthError::ExchangeNotAllowed(_) => Self::invalid_target(
                "nothing is left of the rights asked for, or the service may not act for this subject there",
            ),
            other => Self::of_all(other),
        }
    }

    /// What is the same everywhere: something is away, or broken. "Unknown" is never called "invalid".
    pub(super) fn of_all(error: AuthError) -> Self {
        match error {
            AuthError::RateLimited { retry_after } => {
                LimitRefusal::RateLimited.count();
                Self::unavailable(retry_after)
            }
            AuthError::Overloaded { retry_after } => {
                LimitRefusal::Overloaded.count();
                Self::unavailable(retry_after)
            }
            AuthError::DatabaseUnavailable(cause) => {
                tracing::warn!(
                    cause,
                    "an OAuth request failed: the database is not available"
                );
                Self::unavailable(RETRY_AFTER)
            }
            AuthError::RevocationStateStale => Self::unavailable(RETRY_AFTER),
            other => {
                tracing::error!(error = %other, "an OAuth request failed");
                Self::internal()
            }
        }
    }
}

/// Callers can cause refusals at will, so few are logged. Those of assertions are logged where they are judged.
fn log_refusal(cause: &str) {
    static LIMIT: LazyLock<Mutex<LogLimit>> = LazyLock::new(Mutex::default);
    if LIMIT.lock().is_ok_and(|mut limit| limit.permits()) {
        tracing::warn!(cause, "a client credential was refused");
    }
}

/// What a client may be told about its own credential. Only what concerns an assertion that a trusted issuer had signed:
/// then the response names what to correct. All other causes get the same response.
fn hint(cause: RefusalCause) -> &'static str {
    if !cause.is_after_signature() {
        return NOT_ACCEPTED;
    }
    match cause {
        RefusalCause::Audience => {
            "aud of the assertion must be the audience that is agreed for its issuer, as a rule the issuer identifier of \
             this server and not the token endpoint (Authlib: PrivateKeyJWT(issuer), not claims=)"
        }
        RefusalCause::Expired => "the assertion has expired",
        RefusalCause::NotYetValid => "nbf or iat of the assertion lies more than 10 s ahead",
        RefusalCause::TooLongLived => "the assertion lives longer than a day",
        RefusalCause::NoTokenId => "the assertion needs a jti",
        RefusalCause::Replayed => "jti was used before",
        _ => NOT_ACCEPTED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_before_the_signature_check_and_unbound_subjects_get_the_same_error() {
        for cause in RefusalCause::ALL {
            let refused = OAuthError::of_issue(AuthError::ClientCredentialInvalid(
                CredentialRefusal::Assertion(*cause),
            ));
            assert_eq!(
                (refused.code, refused.status.as_u16()),
                ("invalid_client", 401)
            );
            let is_one_answer = refused.description == NOT_ACCEPTED;
            assert!(is_one_answer || cause.is_after_signature(), "{cause:?}");
        }
        for cause in [RefusalCause::Unbound, RefusalCause::DefaultAccount] {
            assert_eq!(hint(cause), NOT_ACCEPTED);
        }
        assert_eq!(hint(RefusalCause::Replayed), "jti was used before");
    }

    #[test]
    fn an_outage_is_answered_with_503_and_never_as_a_wrong_credential() {
        for error in [
            AuthError::DatabaseUnavailable(String::new()),
            AuthError::RevocationStateStale,
        ] {
            let answered = OAuthError::of_issue(error);
            assert_eq!(answered.status.as_u16(), 503);
            assert_eq!(answered.code, "temporarily_unavailable");
            assert_eq!(answered.retry_after, Some(RETRY_AFTER));
        }
    }
}

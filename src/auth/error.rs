//! Why a use case fails: with details for the log; callers get one constant sentence per reason (`grpc::status`).

use std::{fmt, time::Duration};

use crate::{
    domain::FieldViolation,
    passwords::{HashingError, PasswordError},
    store::StoreError,
    tokens::RefreshTokenError,
    workloads::issuers::{AssertionRefused, RefusalCause},
};

/// Why a client credential is refused: for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialRefusal {
    /// Never for the caller.
    Hidden(&'static str),
    /// For the caller only where [`RefusalCause::is_after_signature`].
    Assertion(RefusalCause),
}

impl fmt::Display for CredentialRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hidden(cause) => cause,
            Self::Assertion(cause) => cause.as_str(),
        })
    }
}

/// Why a use case failed.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// Fields of the request break their rules.
    #[error("invalid fields")]
    InvalidFields(Vec<FieldViolation>),
    /// The new password breaks the policy.
    #[error("weak password")]
    WeakPassword(FieldViolation),
    /// A one-time token is unknown, used, expired, or for another purpose.
    #[error("one-time token invalid")]
    OneTimeTokenInvalid,
    /// The e-mail address belongs to a user already.
    #[error("e-mail taken")]
    EmailTaken,
    /// Only administrators create users.
    #[error("registration closed")]
    RegistrationClosed,
    /// No administrator who can log in would be left.
    #[error("the last administrator cannot be demoted, disabled or deleted")]
    LastAdmin,
    /// Unknown e-mail, wrong password or disabled account.
    #[error("invalid credentials")]
    InvalidCredentials,
    /// Too many failed attempts on this account.
    #[error("account throttled")]
    AccountThrottled {
        /// When the next attempt is let through.
        retry_after: Duration,
    },
    /// One user asks too often, or has too many calls waiting.
    #[error("rate limited")]
    RateLimited {
        /// When the next call is let through.
        retry_after: Duration,
    },
    /// The hashing queue is full, or the caller's deadline cannot be met.
    #[error("overloaded")]
    Overloaded {
        /// When a place is likely to be free.
        retry_after: Duration,
    },
    /// No access token was presented.
    #[error("access token missing")]
    TokenMissing,
    /// Not an access token of ours, or not meant for the audience asked for.
    #[error("access token invalid")]
    TokenInvalid,
    /// The access token is past its time.
    #[error("access token expired")]
    TokenExpired,
    /// The access token's session or user was revoked.
    #[error("access token revoked")]
    TokenRevoked,
    /// The access token lacks a required role.
    #[error("insufficient role")]
    InsufficientRole,
    /// The access token is good, but its user was authenticated too long ago or too weakly (RFC 9470).
    #[error("step-up required")]
    StepUpRequired {
        /// The values of `acr` that the caller accepts, single spaces between.
        acr_values: String,
        /// The age of the authentication that the caller accepts.
        max_age: Option<Duration>,
    },
    /// A service key, an assertion or a token in an exchange that is not accepted.
    #[error("client credential invalid: {0}")]
    ClientCredentialInvalid(CredentialRefusal),
    /// Nothing is left of the rights that an exchange asks for.
    #[error("exchange not allowed: {0}")]
    ExchangeNotAllowed(&'static str),
    /// Not a refresh token of ours, or of a generation never issued.
    #[error("refresh token invalid")]
    RefreshTokenInvalid,
    /// The session idled too long or reached its greatest age.
    #[error("refresh token expired")]
    RefreshTokenExpired,
    /// An old refresh token came back; its session has been revoked.
    #[error("refresh token reused")]
    RefreshTokenReused,
    /// The session was revoked, or its user is disabled or gone.
    #[error("session revoked")]
    SessionRevoked,
    /// A wrong or used code or passkey, or a challenge that is not good any more.
    #[error("second factor invalid")]
    SecondFactorInvalid,
    /// The user has an authenticator app already, or somebody has the passkey.
    #[error("the factor is registered already")]
    FactorExists,
    /// The user has no such factor.
    #[error("there is no such factor")]
    FactorNotFound,
    /// There is no such user.
    #[error("there is no such user")]
    UserNotFound,
    /// The caller has no such session.
    #[error("there is no such session")]
    SessionNotFound,
    /// There is no such service account.
    #[error("there is no such service account")]
    ServiceAccountNotFound,
    /// There is no such service key.
    #[error("there is no such service key")]
    ServiceKeyNotFound,
    /// The name belongs to a service account already.
    #[error("the name of the service account is taken")]
    ServiceAccountExists,
    /// The database is gone, too slow or too busy.
    #[error("database unavailable: {0}")]
    DatabaseUnavailable(String),
    /// Revocations are not known freshly enough, and policy says to refuse then.
    #[error("revocation state stale")]
    RevocationStateStale,
    /// Anything else: a fault of ours.
    #[error("internal: {0}")]
    Internal(String),
}

impl AuthError {
    /// A client credential that is refused for a cause that the caller does not learn.
    pub(super) const fn credential(cause: &'static str) -> Self {
        Self::ClientCredentialInvalid(CredentialRefusal::Hidden(cause))
    }
}

impl From<AssertionRefused> for AuthError {
    fn from(refused: AssertionRefused) -> Self {
        Self::ClientCredentialInvalid(CredentialRefusal::Assertion(refused.cause))
    }
}

impl From<StoreError> for AuthError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_)
            | StoreError::Silent(_)
            | StoreError::NotWritable(_)
            | StoreError::Forbidden(_)
            | StoreError::Busy(_)
            | StoreError::TooManyConnections(_)
            | StoreError::PoolExhausted
            | StoreError::Refused(_)
            | StoreError::Unsorted(_) => Self::DatabaseUnavailable(error.to_string()),
            StoreError::LastAdministrator => Self::LastAdmin,
            StoreError::Conflict
            | StoreError::Corrupt(_)
            | StoreError::NewerSchema(_)
            | StoreError::Query(_) => Self::Internal(error.to_string()),
        }
    }
}

impl From<PasswordError> for AuthError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Overloaded { retry_after } => Self::Overloaded { retry_after },
            PasswordError::Weak(violation) => Self::WeakPassword(violation),
            PasswordError::Internal(cause @ HashingError::UnknownPepper { .. }) => {
                Self::DatabaseUnavailable(format!(
                    "{cause}: give its master key in COUNTERSIGN_MASTER_KEYS, or let the user reset the password"
                ))
            }
            PasswordError::Internal(cause) => Self::Internal(cause.to_string()),
        }
    }
}

impl From<RefreshTokenError> for AuthError {
    fn from(_: RefreshTokenError) -> Self {
        Self::RefreshTokenInvalid
    }
}

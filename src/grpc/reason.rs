//! The closed list of reasons of failures: `google.rpc.ErrorInfo.reason`.

use tonic::Code;

use crate::telemetry::LimitRefusal;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident $name:literal $code:ident $message:literal)*) => {
        /// Why a call failed. Callers match on the name, so a new one is a change of the API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// All reasons.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Its status code.
            pub const fn code(self) -> Code {
                match self {
                    $(Self::$variant => Code::$code,)*
                }
            }

            /// The message of the status. It is constant: no input, no secret, no internal cause.
            pub const fn message(self) -> &'static str {
                match self {
                    $(Self::$variant => $message,)*
                }
            }
        }
    };
}

reasons! {
    /// A field or another part of the request is invalid.
    InvalidField "INVALID_FIELD" InvalidArgument
        "A field of the request is not valid."
    /// The password breaks the password policy.
    WeakPassword "WEAK_PASSWORD" InvalidArgument
        "The password does not meet the password policy."
    /// A reset or verification token is unknown, used or expired.
    OneTimeTokenInvalid "ONE_TIME_TOKEN_INVALID" InvalidArgument
        "The one-time token is unknown, used or expired."
    /// A user with this e-mail address exists.
    EmailTaken "EMAIL_TAKEN" AlreadyExists
        "The e-mail address is already registered."
    /// The user has an authenticator app already, or somebody has the passkey.
    FactorExists "FACTOR_EXISTS" AlreadyExists
        "The second factor is registered already."
    /// A service account with this name exists.
    ServiceAccountExists "SERVICE_ACCOUNT_EXISTS" AlreadyExists
        "A service account with this name exists."
    /// Unknown e-mail, wrong password or disabled account: the caller cannot tell which.
    InvalidCredentials "INVALID_CREDENTIALS" Unauthenticated
        "The e-mail address or the password is wrong."
    /// No access token was sent.
    TokenMissing "TOKEN_MISSING" Unauthenticated
        "No access token was given."
    /// Not an access token of this server, or not for this audience.
    TokenInvalid "TOKEN_INVALID" Unauthenticated
        "The access token is not valid."
    /// The access token has expired.
    TokenExpired "TOKEN_EXPIRED" Unauthenticated
        "The access token has expired."
    /// The access token's session or user was revoked.
    TokenRevoked "TOKEN_REVOKED" Unauthenticated
        "The access token has been revoked."
    /// Not a refresh token of this server.
    RefreshTokenInvalid "REFRESH_TOKEN_INVALID" Unauthenticated
        "The refresh token is not valid."
    /// The session was idle for too long, or has reached its maximum lifetime.
    RefreshTokenExpired "REFRESH_TOKEN_EXPIRED" Unauthenticated
        "The refresh token has expired."
    /// An old refresh token was used again; the session has been revoked.
    RefreshTokenReused "REFRESH_TOKEN_REUSED" Unauthenticated
        "The refresh token was used before; the session has been revoked."
    /// The session was revoked, or its user disabled or deleted.
    SessionRevoked "SESSION_REVOKED" Unauthenticated
        "The session has been revoked."
    /// A wrong or used code or passkey, or a challenge that is no longer valid: the caller cannot tell which.
    SecondFactorInvalid "SECOND_FACTOR_INVALID" Unauthenticated
        "The second factor or its challenge is not valid."
    /// The token is valid, but its user was authenticated too long ago or too weakly.
    StepUpRequired "STEP_UP_REQUIRED" Unauthenticated
        "The user has to authenticate again, or more strongly."
    /// A service key, an assertion or a token in an exchange is not accepted: the caller cannot tell why.
    ClientCredentialInvalid "CLIENT_CREDENTIAL_INVALID" Unauthenticated
        "The credential of the service is not valid."
    /// The token is valid, but lacks a role.
    InsufficientRole "INSUFFICIENT_ROLE" PermissionDenied
        "The token lacks a required role."
    /// Nothing is left of the rights that an exchange asks for, or the chain of actors is too long.
    ExchangeNotAllowed "EXCHANGE_NOT_ALLOWED" PermissionDenied
        "The exchange is not allowed."
    /// Only administrators create users.
    RegistrationClosed "REGISTRATION_CLOSED" PermissionDenied
        "Only administrators create users here."
    /// The last administrator would lose the role, be disabled or be deleted.
    LastAdmin "LAST_ADMIN" FailedPrecondition
        "There would be no administrator left."
    /// There is no user with this id.
    UserNotFound "USER_NOT_FOUND" NotFound
        "There is no such user."
    /// The user has no session with this id.
    SessionNotFound "SESSION_NOT_FOUND" NotFound
        "There is no such session."
    /// The user has no factor with this id.
    FactorNotFound "FACTOR_NOT_FOUND" NotFound
        "There is no such second factor."
    /// There is no service account with this id.
    ServiceAccountNotFound "SERVICE_ACCOUNT_NOT_FOUND" NotFound
        "There is no such service account."
    /// There is no service key with this id.
    ServiceKeyNotFound "SERVICE_KEY_NOT_FOUND" NotFound
        "There is no such service key."
    /// One client address or one user asks too often.
    RateLimited "RATE_LIMITED" ResourceExhausted
        "Too many requests; try again later."
    /// A watcher does not read in time.
    WatcherTooSlow "WATCHER_TOO_SLOW" ResourceExhausted
        "The stream was not read in time; resume from the last cursor."
    /// Too many failed attempts on one account.
    AccountThrottled "ACCOUNT_THROTTLED" ResourceExhausted
        "Too many failed attempts on this account; try again later."
    /// The hashing queue is full or the request would miss its deadline there, or too many calls are
    /// under way.
    Overloaded "OVERLOADED" Unavailable
        "The service is overloaded; try again later."
    /// The database does not answer.
    DatabaseUnavailable "DATABASE_UNAVAILABLE" Unavailable
        "The database is not available; try again later."
    /// This replica's knowledge of revocations is too old, and the stale policy is `reject`.
    RevocationStateStale "REVOCATION_STATE_STALE" Unavailable
        "Revocations could not be checked; try again later."
    /// The connection is too old or the server shuts down, so its streams end.
    ConnectionClosing "CONNECTION_CLOSING" Unavailable
        "The server closes this connection; call again."
    /// A fault of the service; the cause is in the log.
    Internal "INTERNAL" Internal
        "Something went wrong inside the service."
}

impl Reason {
    /// The limit that refused the call, if it was one.
    pub(super) const fn limit(self) -> Option<LimitRefusal> {
        match self {
            Self::RateLimited => Some(LimitRefusal::RateLimited),
            Self::AccountThrottled => Some(LimitRefusal::AccountThrottled),
            Self::Overloaded => Some(LimitRefusal::Overloaded),
            _ => None,
        }
    }

    /// The reason with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| reason.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// The reasons that callers were promised, with their codes.
    const CONTRACT: &[(Code, &[&str])] = &[
        (
            Code::InvalidArgument,
            &["INVALID_FIELD", "WEAK_PASSWORD", "ONE_TIME_TOKEN_INVALID"],
        ),
        (
            Code::AlreadyExists,
            &["EMAIL_TAKEN", "FACTOR_EXISTS", "SERVICE_ACCOUNT_EXISTS"],
        ),
        (
            Code::Unauthenticated,
            &[
                "INVALID_CREDENTIALS",
                "TOKEN_MISSING",
                "TOKEN_INVALID",
                "TOKEN_EXPIRED",
                "TOKEN_REVOKED",
                "REFRESH_TOKEN_INVALID",
                "REFRESH_TOKEN_EXPIRED",
                "REFRESH_TOKEN_REUSED",
                "SESSION_REVOKED",
                "SECOND_FACTOR_INVALID",
                "STEP_UP_REQUIRED",
                "CLIENT_CREDENTIAL_INVALID",
            ],
        ),
        (
            Code::PermissionDenied,
            &[
                "INSUFFICIENT_ROLE",
                "EXCHANGE_NOT_ALLOWED",
                "REGISTRATION_CLOSED",
            ],
        ),
        (Code::FailedPrecondition, &["LAST_ADMIN"]),
        (
            Code::NotFound,
            &[
                "USER_NOT_FOUND",
                "SESSION_NOT_FOUND",
                "FACTOR_NOT_FOUND",
                "SERVICE_ACCOUNT_NOT_FOUND",
                "SERVICE_KEY_NOT_FOUND",
            ],
        ),
        (
            Code::ResourceExhausted,
            &["RATE_LIMITED", "WATCHER_TOO_SLOW", "ACCOUNT_THROTTLED"],
        ),
        (
            Code::Unavailable,
            &[
                "OVERLOADED",
                "DATABASE_UNAVAILABLE",
                "REVOCATION_STATE_STALE",
                "CONNECTION_CLOSING",
            ],
        ),
        (Code::Internal, &["INTERNAL"]),
    ];

    #[test]
    fn reasons_and_codes_are_those_that_callers_were_promised() {
        let promised: Vec<_> = CONTRACT
            .iter()
            .flat_map(|(code, names)| names.iter().map(move |name| (*name, *code)))
            .collect();
        let built: Vec<_> = Reason::ALL
            .iter()
            .map(|reason| (reason.as_str(), reason.code()))
            .collect();
        assert_eq!(built, promised);
    }

    #[test]
    fn each_reason_has_its_own_message_and_is_found_by_name() {
        let messages: HashSet<_> = Reason::ALL.iter().map(|reason| reason.message()).collect();
        assert_eq!(messages.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert!(reason.message().ends_with('.'));
            assert_eq!(Reason::from_name(reason.as_str()), Some(*reason));
        }
        assert_eq!(Reason::from_name("NO_SUCH_REASON"), None);
    }
}

//! The closed list of reasons for which a call can fail; `google.rpc.ErrorInfo.reason`.

use tonic::Code;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident $name:literal $code:ident $message:literal)*) => {
        /// Why a call failed. Callers may match on the name; a new one is a change of the API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The status code that goes with it.
            pub const fn code(self) -> Code {
                match self {
                    $(Self::$variant => Code::$code,)*
                }
            }

            /// One sentence for a person. It is constant: no input, no secret, no inner cause.
            pub const fn message(self) -> &'static str {
                match self {
                    $(Self::$variant => $message,)*
                }
            }
        }
    };
}

reasons! {
    /// A field breaks its rule.
    InvalidField "INVALID_FIELD" InvalidArgument
        "A field of the request is not valid."
    /// The password policy says no.
    WeakPassword "WEAK_PASSWORD" InvalidArgument
        "The password does not meet the password policy."
    /// A reset or verification token is unknown, used or expired.
    OneTimeTokenInvalid "ONE_TIME_TOKEN_INVALID" InvalidArgument
        "The one-time token is unknown, used or expired."
    /// Somebody has registered this address.
    EmailTaken "EMAIL_TAKEN" AlreadyExists
        "The e-mail address is already registered."
    /// Unknown e-mail, wrong password or disabled account: the caller cannot tell which.
    InvalidCredentials "INVALID_CREDENTIALS" Unauthenticated
        "The e-mail address or the password is wrong."
    /// No access token was sent.
    TokenMissing "TOKEN_MISSING" Unauthenticated
        "No access token was given."
    /// The access token is not one of ours, or not for this audience.
    TokenInvalid "TOKEN_INVALID" Unauthenticated
        "The access token is not valid."
    /// The access token was good once.
    TokenExpired "TOKEN_EXPIRED" Unauthenticated
        "The access token has expired."
    /// The access token's session or user was revoked.
    TokenRevoked "TOKEN_REVOKED" Unauthenticated
        "The access token has been revoked."
    /// The refresh token is not one of ours.
    RefreshTokenInvalid "REFRESH_TOKEN_INVALID" Unauthenticated
        "The refresh token is not valid."
    /// The session was idle for too long, or has reached its greatest age.
    RefreshTokenExpired "REFRESH_TOKEN_EXPIRED" Unauthenticated
        "The refresh token has expired."
    /// An old refresh token came back: the session is revoked.
    RefreshTokenReused "REFRESH_TOKEN_REUSED" Unauthenticated
        "The refresh token was used before; the session has been revoked."
    /// The session was revoked, or its user disabled or deleted.
    SessionRevoked "SESSION_REVOKED" Unauthenticated
        "The session has been revoked."
    /// The token is good, but a role is missing.
    InsufficientRole "INSUFFICIENT_ROLE" PermissionDenied
        "The token lacks a required role."
    /// There is no such user.
    UserNotFound "USER_NOT_FOUND" NotFound
        "There is no such user."
    /// There is no such session.
    SessionNotFound "SESSION_NOT_FOUND" NotFound
        "There is no such session."
    /// One client address or one user asks too often.
    RateLimited "RATE_LIMITED" ResourceExhausted
        "Too many requests; try again later."
    /// One account has seen too many failures.
    AccountThrottled "ACCOUNT_THROTTLED" ResourceExhausted
        "Too many failed attempts on this account; try again later."
    /// The hashing queue is full, or the request would miss its deadline there.
    Overloaded "OVERLOADED" Unavailable
        "The service is overloaded; try again later."
    /// The database does not answer.
    DatabaseUnavailable "DATABASE_UNAVAILABLE" Unavailable
        "The database is not available; try again later."
    /// What is known about revocations is too old, and the policy is to reject.
    RevocationStateStale "REVOCATION_STATE_STALE" Unavailable
        "Revocations could not be checked; try again later."
    /// Anything else; the cause is in the log.
    Internal "INTERNAL" Internal
        "Something went wrong inside the service."
}

impl Reason {
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

    /// The contract's table of errors, copied by hand.
    const CONTRACT: &[(Code, &[&str])] = &[
        (
            Code::InvalidArgument,
            &["INVALID_FIELD", "WEAK_PASSWORD", "ONE_TIME_TOKEN_INVALID"],
        ),
        (Code::AlreadyExists, &["EMAIL_TAKEN"]),
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
            ],
        ),
        (Code::PermissionDenied, &["INSUFFICIENT_ROLE"]),
        (Code::NotFound, &["USER_NOT_FOUND", "SESSION_NOT_FOUND"]),
        (
            Code::ResourceExhausted,
            &["RATE_LIMITED", "ACCOUNT_THROTTLED"],
        ),
        (
            Code::Unavailable,
            &[
                "OVERLOADED",
                "DATABASE_UNAVAILABLE",
                "REVOCATION_STATE_STALE",
            ],
        ),
        (Code::Internal, &["INTERNAL"]),
    ];

    #[test]
    fn every_reason_has_the_code_of_the_contract_and_no_other_exists() {
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
    fn each_reason_has_a_sentence_of_its_own_and_is_found_by_name() {
        let messages: HashSet<_> = Reason::ALL.iter().map(|reason| reason.message()).collect();
        assert_eq!(messages.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert!(reason.message().ends_with('.'));
            assert_eq!(Reason::from_name(reason.as_str()), Some(*reason));
        }
        assert_eq!(Reason::from_name("NO_SUCH_REASON"), None);
    }
}

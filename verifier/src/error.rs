//! Why a token is not accepted, with the messages of the server.

use tonic::Code;

/// The `domain` of every `google.rpc.ErrorInfo` of the server.
pub(crate) const DOMAIN: &str = "auth.countersign.v1";

/// Why a token is not accepted. [`reason`](Self::reason) is what the server would answer in `google.rpc.ErrorInfo`.
///
/// What this verifier does not know is never called invalid: it is [`NotReady`](Self::NotReady),
/// [`KeyUnknown`](Self::KeyUnknown), [`Stale`](Self::Stale) or [`ServerUnavailable`](Self::ServerUnavailable), which mean "try again",
/// not "log in again".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// There is no token.
    #[error("No access token was given.")]
    TokenMissing,
    /// It is no access token of this issuer for this audience.
    #[error("The access token is not valid.")]
    TokenInvalid,
    /// It was valid before.
    #[error("The access token has expired.")]
    TokenExpired,
    /// Its session or its subject was revoked.
    #[error("The access token has been revoked.")]
    TokenRevoked,
    /// It is valid and lacks a role.
    #[error("The token lacks a required role.")]
    InsufficientRole,
    /// It is valid; the login behind it is too old or too weak (RFC 9470).
    #[error("The login behind the token is too old or too weak.")]
    StepUpRequired,
    /// No complete snapshot of keys and revocations has been received yet.
    #[error("Revocations could not be checked; try again later.")]
    NotReady,
    /// It names a key that is not known here, and the server has not been asked for it yet, or the feed is interrupted.
    #[error("Revocations could not be checked; try again later.")]
    KeyUnknown,
    /// What is known of revocations is older than the policy allows, or than the caller demands.
    #[error("Revocations could not be checked; try again later.")]
    Stale,
    /// The server was to be asked and did not answer.
    #[error("Revocations could not be checked; try again later.")]
    ServerUnavailable,
}

impl VerifyError {
    /// The contract's reason, as in `google.rpc.ErrorInfo.reason`.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::TokenMissing => "TOKEN_MISSING",
            Self::TokenInvalid => "TOKEN_INVALID",
            Self::TokenExpired => "TOKEN_EXPIRED",
            Self::TokenRevoked => "TOKEN_REVOKED",
            Self::InsufficientRole => "INSUFFICIENT_ROLE",
            Self::StepUpRequired => "STEP_UP_REQUIRED",
            Self::NotReady | Self::KeyUnknown | Self::Stale | Self::ServerUnavailable => {
                "REVOCATION_STATE_STALE"
            }
        }
    }

    /// The gRPC code.
    pub const fn code(self) -> Code {
        match self {
            Self::TokenMissing
            | Self::TokenInvalid
            | Self::TokenExpired
            | Self::TokenRevoked
            | Self::StepUpRequired => Code::Unauthenticated,
            Self::InsufficientRole => Code::PermissionDenied,
            Self::NotReady | Self::KeyUnknown | Self::Stale | Self::ServerUnavailable => {
                Code::Unavailable
            }
        }
    }

    /// Whether this verifier lacks knowledge: the token may be good, and the caller should try again.
    pub const fn is_unavailable(self) -> bool {
        matches!(self.code(), Code::Unavailable)
    }
}

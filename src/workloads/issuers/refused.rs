//! Why an assertion is refused: for the log and the metrics. The sender gets one answer.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use crate::telemetry::LogLimit;

/// An assertion is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("assertion refused: {}", cause.as_str())]
pub struct AssertionRefused {
    /// Why. For the log only, unless [`RefusalCause::is_after_signature`].
    pub cause: RefusalCause,
}

impl From<RefusalCause> for AssertionRefused {
    fn from(cause: RefusalCause) -> Self {
        Self { cause }
    }
}

macro_rules! causes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $signed:literal;)*) => {
        /// Why an assertion is refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum RefusalCause { $($(#[$doc])* $name,)* }

        impl RefusalCause {
            /// Every cause.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name in logs and metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Whether a key of the issuer had signed the assertion. Then the cause tells its sender nothing but what it
            /// did wrong, and the token endpoint may name it.
            pub const fn is_after_signature(self) -> bool {
                match self { $(Self::$name => $signed,)* }
            }
        }
    };
}

causes! {
    /// No file of trusted issuers is configured.
    NoIssuers = "no_trusted_issuers", false;
    /// It is longer than [`MAX_ASSERTION_LENGTH`](super::MAX_ASSERTION_LENGTH).
    TooLong = "too_long", false;
    /// It is no JWT in compact form, or a member is missing, doubled or of the wrong type.
    Malformed = "malformed", false;
    /// The header names a critical extension, or a type that is no assertion.
    Type = "type", false;
    /// No issuer of the file is named by `iss`, or by the trust domain of `sub`.
    UnknownIssuer = "unknown_issuer", false;
    /// The algorithm is not one that the file pins for the issuer.
    Algorithm = "algorithm", false;
    /// The issuer has no key of that `kid` and algorithm, as far as is known.
    UnknownKey = "unknown_key", false;
    /// No key of the issuer verifies the signature.
    Signature = "signature", false;
    /// `aud` does not hold the issuer's audience.
    Audience = "audience", true;
    /// `exp` has passed.
    Expired = "expired", true;
    /// `nbf` or `iat` lies ahead.
    NotYetValid = "not_yet_valid", true;
    /// It lives longer than [`LONGEST_LIFE`](super::LONGEST_LIFE).
    TooLongLived = "too_long_lived", true;
    /// `single_use` demands a `jti`.
    NoTokenId = "no_jti", true;
    /// The `jti` of a single-use assertion was presented before.
    Replayed = "jti_reused", true;
    /// As many single-use assertions are remembered as fit.
    ReplayMemoryFull = "jti_memory_full", true;
    /// It is the service account `default` of a Kubernetes namespace, which every pod has.
    DefaultAccount = "kubernetes_default_account", true;
    /// No binding names the subject.
    Unbound = "unbound_subject", true;
}

/// Counts refusals and logs them, each cause at most once in ten seconds: callers can cause them at will.
#[derive(Debug)]
pub(super) struct Refusals {
    counts: Vec<AtomicU64>,
    limits: Vec<Mutex<LogLimit>>,
}

impl Default for Refusals {
    fn default() -> Self {
        Self {
            counts: RefusalCause::ALL
                .iter()
                .map(|_| AtomicU64::new(0))
                .collect(),
            limits: RefusalCause::ALL.iter().map(|_| Mutex::default()).collect(),
        }
    }
}

impl Refusals {
    /// Notes a refusal. `issuer` is the name in the file, where one was found.
    pub(super) fn note(&self, cause: RefusalCause, issuer: Option<&str>) {
        let index = cause as usize;
        self.counts[index].fetch_add(1, Ordering::Relaxed);
        let permitted = self.limits[index]
            .lock()
            .is_ok_and(|mut limit| limit.permits());
        if permitted {
            tracing::warn!(
                cause = cause.as_str(),
                issuer,
                "an assertion of a service was refused"
            );
        }
    }

    /// How often each cause occurred.
    pub(super) fn read(&self) -> Vec<(&'static str, u64)> {
        let causes = RefusalCause::ALL.iter().zip(&self.counts);
        causes
            .map(|(cause, count)| (cause.as_str(), count.load(Ordering::Relaxed)))
            .collect()
    }
}

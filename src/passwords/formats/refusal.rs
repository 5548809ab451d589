//! Why a foreign hash is refused, in words for the person who imports it.

use std::fmt;

/// What kind of obstacle it is, so that an importer can count and act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The account has no password: import it without one.
    NoPassword,
    /// A plain-text password. It is never stored.
    PlainText,
    /// No known format.
    Unknown,
    /// A known format that is left out on purpose.
    NotSupported,
    /// A known format that breaks its own rules: cut off, garbled, another spelling.
    Malformed,
    /// A well-formed hash above the ceiling of its cost.
    TooCostly,
}

/// A refused hash. The reason never repeats the hash; numbers from it at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The kind of obstacle.
    pub kind: RefusalKind,
    reason: String,
}

impl Refusal {
    pub(super) fn new(kind: RefusalKind, reason: impl Into<String>) -> Self {
        Self {
            kind,
            reason: reason.into(),
        }
    }

    pub(super) fn malformed(reason: impl Into<String>) -> Self {
        Self::new(RefusalKind::Malformed, reason)
    }

    pub(super) fn too_costly(reason: impl Into<String>) -> Self {
        Self::new(RefusalKind::TooCostly, reason)
    }

    pub(super) fn not_supported(reason: impl Into<String>) -> Self {
        Self::new(RefusalKind::NotSupported, reason)
    }

    pub(super) fn unknown(reason: impl Into<String>) -> Self {
        Self::new(RefusalKind::Unknown, reason)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Refusal {}

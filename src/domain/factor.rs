//! Second factors of users: what kinds there are, and which a user has.

use super::{DeviceLabel, FactorId};
use crate::clock::Timestamp;

/// What kind of second factor it is. Recovery codes are none: they stand in for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FactorKind {
    /// An authenticator app (RFC 6238).
    Totp,
    /// A passkey (WebAuthn Level 3).
    Passkey,
}

impl FactorKind {
    const ALL: [Self; 2] = [Self::Totp, Self::Passkey];

    /// The name in the database.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Totp => "totp",
            Self::Passkey => "passkey",
        }
    }
}

/// The kinds of factors that a user has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FactorKinds {
    totp: bool,
    passkey: bool,
}

impl FactorKinds {
    /// No factor.
    pub const NONE: Self = Self {
        totp: false,
        passkey: false,
    };

    /// These kinds.
    pub fn of(kinds: impl IntoIterator<Item = FactorKind>) -> Self {
        kinds.into_iter().fold(Self::NONE, Self::with)
    }

    /// These kinds and one more.
    #[must_use]
    pub const fn with(self, kind: FactorKind) -> Self {
        match kind {
            FactorKind::Totp => Self { totp: true, ..self },
            FactorKind::Passkey => Self {
                passkey: true,
                ..self
            },
        }
    }

    /// Whether the user has a factor of this kind.
    pub const fn has(self, kind: FactorKind) -> bool {
        match kind {
            FactorKind::Totp => self.totp,
            FactorKind::Passkey => self.passkey,
        }
    }

    /// Whether the user has none.
    pub const fn is_empty(self) -> bool {
        !self.totp && !self.passkey
    }

    /// The kinds, in a fixed order.
    pub fn iter(self) -> impl Iterator<Item = FactorKind> {
        FactorKind::ALL
            .into_iter()
            .filter(move |kind| self.has(*kind))
    }

    /// The text to store; `None` for no factor.
    pub(crate) fn to_stored(self) -> Option<String> {
        let names: Vec<_> = self.iter().map(FactorKind::as_str).collect();
        (!names.is_empty()).then(|| names.join(" "))
    }

    /// What was stored. `None` where a kind is unknown: a login must not pass it by.
    pub(crate) fn from_stored(text: Option<&str>) -> Option<Self> {
        let mut kinds = Self::NONE;
        for name in text.unwrap_or_default().split_ascii_whitespace() {
            kinds = kinds.with(
                FactorKind::ALL
                    .into_iter()
                    .find(|kind| kind.as_str() == name)?,
            );
        }
        Some(kinds)
    }
}

/// A second factor of a user, without what proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Factor {
    /// Names the factor.
    pub id: FactorId,
    /// What it is.
    pub kind: FactorKind,
    /// The user's name for it; may be empty.
    pub label: DeviceLabel,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was last accepted, since it was added.
    pub last_used_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_that_are_stored_are_read_back() {
        for kinds in [
            FactorKinds::NONE,
            FactorKinds::of([FactorKind::Totp]),
            FactorKinds::of([FactorKind::Passkey]),
            FactorKinds::of([FactorKind::Passkey, FactorKind::Totp]),
        ] {
            let stored = kinds.to_stored();
            assert_eq!(FactorKinds::from_stored(stored.as_deref()), Some(kinds));
            assert_eq!(stored.is_none(), kinds.is_empty());
        }
        assert_eq!(FactorKinds::from_stored(Some("totp carrier_pigeon")), None);
    }
}

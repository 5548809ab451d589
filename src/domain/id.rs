//! Typed ids, so that the compiler tells a session's from a user's. All are UUIDv7 (RFC 9562 section 5.7).

use std::{fmt, str::FromStr, time::Duration};

use uuid::{NoContext, Uuid, fmt::Hyphenated};

use crate::clock::Timestamp;

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id that sorts after those of earlier milliseconds.
            pub fn generate(now: Timestamp) -> Self {
                Self(uuid_v7(now))
            }

            /// When the id was generated, to the millisecond.
            pub fn created_at(&self) -> Timestamp {
                let unix = self.0.get_timestamp().map_or((0, 0), |time| time.to_unix());
                Timestamp::from_seconds(i64::try_from(unix.0).unwrap_or(0))
                    + Duration::from_nanos(unix.1.into())
            }

            /// The id with these 16 bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The 16 bytes of the id.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            /// Accepts only the hyphenated form, in either case (RFC 9562 section 4): no braces, no URN, no form
            /// without hyphens.
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse::<Hyphenated>().map(|id| Self(id.into_uuid()))
            }
        }
    };
}

id_type! {
    /// Names a user; the claim `sub`.
    UserId
}
id_type! {
    /// Names a session; the claim `sid`.
    SessionId
}
id_type! {
    /// Names an access token; the claim `jti`.
    TokenId
}

id_type! {
    /// Names a device on which a user logged in before; part of its device token.
    DeviceId
}

id_type! {
    /// Names an audit event.
    AuditEventId
}

id_type! {
    /// Names a challenge, which is answered once.
    ChallengeId
}

id_type! {
    /// Names a second factor.
    FactorId
}

id_type! {
    /// Names a service account; the claim `sub` of its tokens.
    ServiceAccountId
}

id_type! {
    /// Names a key of a service account; the claim `sid` of the tokens that are issued for it.
    ServiceKeyId
}

impl From<ServiceAccountId> for UserId {
    /// The subject of a token: a user or a service account.
    fn from(id: ServiceAccountId) -> Self {
        Self(id.0)
    }
}

impl From<UserId> for ServiceAccountId {
    /// The service account that the subject of a service's token names.
    fn from(id: UserId) -> Self {
        Self(id.0)
    }
}

impl From<ServiceKeyId> for SessionId {
    /// What the tokens of a key name as their session.
    fn from(id: ServiceKeyId) -> Self {
        Self(id.0)
    }
}

impl SessionId {
    /// Sorts after every id that is generated.
    pub const MAX: Self = Self(Uuid::max());
}

/// A random UUIDv7 of the given moment.
pub(crate) fn uuid_v7(now: Timestamp) -> Uuid {
    let seconds = u64::try_from(now.seconds()).unwrap_or(0);
    let nanos = u32::try_from(now.micros().rem_euclid(1_000_000)).unwrap_or(0) * 1_000;
    Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanos))
}

/// What no UUIDv7 of the given moment or later sorts before.
pub(crate) fn first_uuid_of(moment: Timestamp) -> Uuid {
    let millis = u128::try_from(moment.millis()).unwrap_or(0);
    // The time is in the first 48 bits (RFC 9562 section 5.7).
    Uuid::from_u128(millis << 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ids_are_version_7_and_sort_by_time() {
        let early = UserId::generate(Timestamp::from_seconds(1_700_000_000));
        let late = UserId::generate(Timestamp::from_seconds(1_700_000_001));
        assert!(early < late);
        assert_eq!(early.0.get_version_num(), 7);
        assert_eq!(early.created_at(), Timestamp::from_seconds(1_700_000_000));
        assert_eq!(early.to_string().parse::<UserId>().unwrap(), early);
        let first = first_uuid_of(Timestamp::from_seconds(1_700_000_001));
        assert!(early.0 < first && first < late.0);
    }

    #[test]
    fn only_the_hyphenated_form_parses() {
        let id = UserId::generate(Timestamp::from_seconds(1_700_000_000)).to_string();
        for other in [
            String::new(),
            id.replace('-', ""),
            format!("{{{id}}}"),
            format!("urn:uuid:{id}"),
            format!("{id} "),
        ] {
            assert!(other.parse::<UserId>().is_err(), "{other}");
        }
    }
}

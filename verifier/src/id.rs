//! The ids that tokens and revocations name: UUIDs, as a rule of version 7 (RFC 9562).

use std::{fmt, str::FromStr};

use uuid::{Uuid, fmt::Hyphenated};

use crate::clock::UnixMillis;

/// The id of a user, a session or a token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(Uuid);

/// The text is not a UUID in its hyphenated form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID in its hyphenated form")]
pub struct InvalidId;

impl Id {
    /// The id with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The time in an id of version 7 (RFC 9562 section 5.7). The beginning of time for any other, so that a token whose
    /// time of issue is unknown counts as older than every revocation.
    pub(crate) fn time(&self) -> UnixMillis {
        if self.0.get_version_num() != 7 {
            return UnixMillis(0);
        }
        let mut millis = [0; 8];
        millis[2..].copy_from_slice(&self.as_bytes()[..6]);
        UnixMillis(i64::from_be_bytes(millis))
    }
}

impl FromStr for Id {
    type Err = InvalidId;

    /// Takes the hyphenated form only, in either case (RFC 9562 section 4).
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let id = text.parse::<Hyphenated>().map_err(|_| InvalidId)?;
        Ok(Self(id.into_uuid()))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_an_id_is_that_of_version_7_only() {
        let id: Id = "0193735b-2a00-7000-8000-000000000001".parse().unwrap();
        assert_eq!(id.time(), UnixMillis(0x0193_735b_2a00));
        let other: Id = "0193735b-2a00-4000-8000-000000000001".parse().unwrap();
        assert_eq!(other.time(), UnixMillis(0));
    }

    #[test]
    fn only_the_hyphenated_form_parses() {
        let text = "0193735b-2a00-7000-8000-000000000001";
        assert_eq!(text.parse::<Id>().unwrap().to_string(), text);
        for other in [
            String::new(),
            text.replace('-', ""),
            format!("{{{text}}}"),
            format!("urn:uuid:{text}"),
        ] {
            assert_eq!(other.parse::<Id>(), Err(InvalidId), "{other}");
        }
    }
}

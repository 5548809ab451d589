//! Pagination of lists (AIP-158): the size of a page, and the token of the next one.

use crate::{
    domain::{
        AuditEventId, FieldViolation, ServiceAccountId, ServiceKeyId, SessionId, UserId,
        ViolationReason,
    },
    tokens::DerivedKeys,
};

/// The size of a page when the request names none.
const DEFAULT_SIZE: u16 = 50;

/// The largest page; a larger size is reduced to this.
const LARGEST_SIZE: u16 = 1_000;

/// Parses `page_size`; 0 means the default size.
pub(super) fn size(field: &'static str, asked: i32) -> Result<u16, FieldViolation> {
    match asked {
        0 => Ok(DEFAULT_SIZE),
        ..0 => Err(FieldViolation::new(
            field,
            ViolationReason::Malformed,
            "must not be negative",
        )),
        1.. => Ok(u16::try_from(asked).map_or(LARGEST_SIZE, |size| size.min(LARGEST_SIZE))),
    }
}

/// A list, and what it is filtered by: a page token is good for both alone.
#[derive(Clone, Copy)]
pub(super) struct Listing<'a> {
    keys: &'a DerivedKeys,
    name: &'static str,
    filter: &'a str,
}

impl<'a> Listing<'a> {
    pub(super) const fn new(keys: &'a DerivedKeys, name: &'static str, filter: &'a str) -> Self {
        Self { keys, name, filter }
    }

    /// Parses `page_token`: the last entry of the page before; `None` for the first page.
    pub(super) fn position<T: Position>(
        self,
        field: &'static str,
        token: &str,
    ) -> Result<Option<T>, FieldViolation> {
        if token.is_empty() {
            return Ok(None);
        }
        let id = self.keys.parse_page_token(self.name, self.filter, token);
        id.map(|id| Some(T::from_bytes(id))).ok_or_else(|| {
            FieldViolation::new(
                field,
                ViolationReason::Malformed,
                "must be the next_page_token of an earlier answer to the same request",
            )
        })
    }

    /// The `next_page_token` of a page that ends with this entry; empty when it is the last page.
    pub(super) fn token<T: Position>(self, last: Option<T>) -> String {
        last.map_or_else(String::new, |id| {
            self.keys.page_token(self.name, self.filter, &id.bytes())
        })
    }
}

/// An entry of a list, by its id.
pub(super) trait Position {
    fn from_bytes(bytes: [u8; 16]) -> Self;
    fn bytes(&self) -> [u8; 16];
}

macro_rules! positions {
    ($($id:ty)*) => {$(
        impl Position for $id {
            fn from_bytes(bytes: [u8; 16]) -> Self {
                Self::from_bytes(bytes)
            }

            fn bytes(&self) -> [u8; 16] {
                *self.as_bytes()
            }
        }
    )*};
}

positions!(AuditEventId ServiceAccountId ServiceKeyId SessionId UserId);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::MasterKey, secret::Secret};

    #[test]
    fn the_page_size_has_a_default_and_a_maximum() {
        for (asked, expected) in [
            (0, Some(50)),
            (1, Some(1)),
            (1_000, Some(1_000)),
            (1_001, Some(1_000)),
            (i32::MAX, Some(1_000)),
            (-1, None),
            (i32::MIN, None),
        ] {
            assert_eq!(size("page_size", asked).ok(), expected, "{asked}");
        }
    }

    fn keys() -> DerivedKeys {
        let key = Secret::new([7; 32]);
        DerivedKeys::derive(&[MasterKey { version: 1, key }])
    }

    #[test]
    fn the_first_page_has_no_token_and_the_last_page_returns_none() {
        let keys = keys();
        let sessions = Listing::new(&keys, "sessions", "");
        assert_eq!(sessions.position::<SessionId>("page_token", ""), Ok(None));
        assert_eq!(sessions.token::<SessionId>(None), "");
    }

    #[test]
    fn a_token_is_parsed_back_to_its_entry_only_in_its_own_list() {
        let keys = keys();
        let id = SessionId::from_bytes([9; 16]);
        let sessions = Listing::new(&keys, "sessions", "");
        let token = sessions.token(Some(id));
        assert_eq!(sessions.position("page_token", &token), Ok(Some(id)));
        for other in [
            Listing::new(&keys, "users", ""),
            Listing::new(&keys, "sessions", "x"),
        ] {
            assert!(other.position::<SessionId>("page_token", &token).is_err());
        }
    }
}

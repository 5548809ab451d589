//! Pagination of lists (AIP-158): the size of a page, and the token of the next one.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::domain::{FieldViolation, ServiceAccountId, ServiceKeyId, SessionId, ViolationReason};

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

/// Parses `page_token`: the last entry of the page before; `None` for the first page.
///
/// It is neither secret nor signed: it is a position in a list that the caller may read.
pub(super) fn position<T: Position>(
    field: &'static str,
    token: &str,
) -> Result<Option<T>, FieldViolation> {
    if token.is_empty() {
        return Ok(None);
    }
    let mut id = [0; 16];
    match URL_SAFE_NO_PAD.decode_slice(token, &mut id) {
        Ok(16) => Ok(Some(T::from_bytes(id))),
        _ => Err(FieldViolation::new(
            field,
            ViolationReason::Malformed,
            "must be the next_page_token of an earlier answer",
        )),
    }
}

/// The `next_page_token` of a page that ends with this entry; empty when it is the last page.
pub(super) fn token<T: Position>(position: Option<T>) -> String {
    position.map_or_else(String::new, |id| URL_SAFE_NO_PAD.encode(id.bytes()))
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

positions!(SessionId ServiceAccountId ServiceKeyId);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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

    #[test]
    fn the_first_page_has_no_token_and_the_last_page_returns_none() {
        assert_eq!(position::<SessionId>("page_token", ""), Ok(None));
        assert_eq!(token::<SessionId>(None), "");
    }

    proptest! {
        #[test]
        fn a_token_is_parsed_back_to_its_entry(bytes: [u8; 16]) {
            let id = SessionId::from_bytes(bytes);
            prop_assert_eq!(position("page_token", &token(Some(id))), Ok(Some(id)));
        }

        #[test]
        fn any_other_token_is_refused(text in "[A-Za-z0-9_-]{22}|\\PC{1,64}") {
            if let Ok(read) = position::<SessionId>("page_token", &text) {
                prop_assert_eq!(token(read), text);
            }
        }
    }
}

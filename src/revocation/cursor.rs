//! The cursor of a watcher: its position in the order of revocations, as opaque text.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::domain::{FieldViolation, ViolationReason};

/// The first byte of every cursor: its format.
const FORM: u8 = 1;

/// From where a watcher can resume, on any replica: it has every revocation before it.
///
/// It holds a position of the table that all replicas share, so no replica has to remember a watcher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(i64);

impl Cursor {
    /// Before everything: of a watcher that has nothing yet.
    pub const START: Self = Self(0);

    /// The cursor before `position`.
    pub const fn at(position: i64) -> Self {
        Self(if position > 0 { position } else { 0 })
    }

    /// The position of the first revocation that a watcher with this cursor may not have.
    pub const fn position(self) -> i64 {
        self.0
    }

    /// The same for the index, where a revocation may have no position yet.
    pub(super) const fn floor(self) -> i64 {
        match self.0 {
            0 => i64::MIN,
            position => position,
        }
    }

    /// Reads a cursor that a replica has issued; empty text is [`Cursor::START`].
    pub fn parse(field: &'static str, text: &str) -> Result<Self, FieldViolation> {
        if text.is_empty() {
            return Ok(Self::START);
        }
        decode(text).ok_or_else(|| {
            FieldViolation::new(
                field,
                ViolationReason::Malformed,
                "must be empty or the cursor of a heartbeat, unchanged",
            )
        })
    }
}

fn decode(text: &str) -> Option<Cursor> {
    let mut bytes = [0; 9];
    let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
    let (form, position) = bytes[..length].split_first()?;
    let position = i64::from_be_bytes(position.try_into().ok()?);
    (*form == FORM && position >= 0).then_some(Cursor(position))
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [FORM; 9];
        bytes[1..].copy_from_slice(&self.0.to_be_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_that_was_not_issued_is_no_cursor() {
        assert_eq!(Cursor::parse("cursor", ""), Ok(Cursor::START));
        for other in [
            "x",
            "AQ",
            "AQAAAAAAAAAB=",
            "AgAAAAAAAAAB",
            "Af__________",
            "AQAAAAAAAAABAA",
        ] {
            let violation = Cursor::parse("cursor", other).unwrap_err();
            assert_eq!(violation.field, "cursor");
            assert_eq!(violation.reason, ViolationReason::Malformed);
        }
    }

    proptest! {
        #[test]
        fn every_cursor_is_read_back(position in 0..=i64::MAX) {
            let cursor = Cursor::at(position);
            prop_assert_eq!(Cursor::parse("cursor", &cursor.to_string()), Ok(cursor));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,40}") {
            let _ = Cursor::parse("cursor", &text);
        }
    }
}

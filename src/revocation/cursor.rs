//! The cursor of the feed: a position in the order of revocations, and the epoch in which that order holds.
//!
//! `docs/verifier-protocol.md` publishes the layout and the comparison, so that clients can compare
//! their own cursor with another one: base64url without padding of
//! `format 2 (1 byte) ‖ epoch (8) ‖ position (8, big endian, signed, not negative)`.
//! Format 1, of the previous version, has no epoch: such a cursor is read, and compares with none.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::domain::{FeedEpoch, FieldViolation, ViolationReason};

/// The first byte of a cursor: its format.
const FORMAT: u8 = 2;
/// That of the previous version: the position follows at once.
const FORMAT_WITHOUT_EPOCH: u8 = 1;

const LENGTH: usize = 1 + FeedEpoch::LENGTH + 8;
const LENGTH_WITHOUT_EPOCH: usize = 1 + 8;

/// Up to where revocations are known: every revocation of this epoch up to this position.
///
/// Positions are those of a table that all replicas share, and become visible in their order (`store::revocations`). So a
/// watcher resumes with it on any replica, and of two cursors of one epoch the one with the greater position knows more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    epoch: Option<FeedEpoch>,
    position: i64,
}

impl Cursor {
    /// Before everything: of a watcher that has nothing yet.
    pub const START: Self = Self {
        epoch: None,
        position: 0,
    };

    /// The cursor of who knows all revocations of `epoch` up to `position`.
    pub const fn new(epoch: Option<FeedEpoch>, position: i64) -> Self {
        Self {
            epoch,
            position: if position > 0 { position } else { 0 },
        }
    }

    /// The epoch; `None` when it is not known.
    pub const fn epoch(self) -> Option<FeedEpoch> {
        self.epoch
    }

    /// The greatest position that is known.
    pub const fn position(self) -> i64 {
        self.position
    }

    /// Whether this cursor is equal to `other` or newer. Cursors of different epochs, or of none, do not
    /// compare: the answer is no.
    pub fn is_at_least(self, other: Self) -> bool {
        self.epoch.is_some() && self.epoch == other.epoch && self.position >= other.position
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
                "must be empty or a cursor that was returned by the service, unchanged",
            )
        })
    }
}

fn decode(text: &str) -> Option<Cursor> {
    let mut bytes = [0; LENGTH];
    let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
    let (epoch, position) = match (bytes[0], length) {
        (FORMAT, LENGTH) => {
            let (epoch, position) = bytes[1..].split_at(FeedEpoch::LENGTH);
            (FeedEpoch::from_bytes(epoch.try_into().ok()?), position)
        }
        (FORMAT_WITHOUT_EPOCH, LENGTH_WITHOUT_EPOCH) => (None, &bytes[1..length]),
        _ => return None,
    };
    let position = i64::from_be_bytes(position.try_into().ok()?);
    (position >= 0).then_some(Cursor { epoch, position })
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [FORMAT; LENGTH];
        let (epoch, position) = bytes[1..].split_at_mut(FeedEpoch::LENGTH);
        epoch.copy_from_slice(&self.epoch.map_or([0; FeedEpoch::LENGTH], FeedEpoch::bytes));
        position.copy_from_slice(&self.position.to_be_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cursor(epoch: u8, position: i64) -> Cursor {
        Cursor::new(FeedEpoch::from_bytes([epoch; 8]), position)
    }

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
            "AgAAAAAAAAABAAAAAAAAAAEA",
            "AgAAAAAAAAAB__________8",
            "AwAAAAAAAAABAAAAAAAAAAE",
        ] {
            let violation = Cursor::parse("cursor", other).unwrap_err();
            assert_eq!(violation.field, "cursor");
            assert_eq!(violation.reason, ViolationReason::Malformed);
        }
    }

    #[test]
    fn the_layout_is_the_published_one() {
        let text = cursor(0xAB, 0x0102_0304).to_string();
        let bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
        let expected = [[2].as_slice(), &[0xAB; 8], &[0, 0, 0, 0, 1, 2, 3, 4]].concat();
        assert_eq!(bytes, expected);
    }

    #[test]
    fn a_cursor_of_the_previous_version_is_read_without_an_epoch() {
        let old = Cursor::parse("cursor", "AQAAAAAAAAAB").unwrap();
        assert_eq!((old.epoch(), old.position()), (None, 1));
    }

    #[test]
    fn only_cursors_of_one_epoch_compare() {
        assert!(cursor(1, 5).is_at_least(cursor(1, 5)));
        assert!(cursor(1, 6).is_at_least(cursor(1, 5)));
        assert!(!cursor(1, 4).is_at_least(cursor(1, 5)));
        assert!(!cursor(2, 6).is_at_least(cursor(1, 5)));
        assert!(!Cursor::new(None, 6).is_at_least(Cursor::new(None, 5)));
    }

    proptest! {
        #[test]
        fn every_cursor_is_read_back(epoch: [u8; 8], position in 0..=i64::MAX) {
            let cursor = Cursor::new(FeedEpoch::from_bytes(epoch), position);
            prop_assert_eq!(Cursor::parse("cursor", &cursor.to_string()), Ok(cursor));
        }

        #[test]
        fn a_parsed_cursor_is_written_as_the_same_text(bytes in prop::collection::vec(any::<u8>(), 17)) {
            let mut bytes = bytes;
            bytes[0] = FORMAT;
            bytes[9] &= 0x7F;
            let text = URL_SAFE_NO_PAD.encode(&bytes);
            prop_assert_eq!(Cursor::parse("cursor", &text).unwrap().to_string(), text);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,40}") {
            let _ = Cursor::parse("cursor", &text);
        }
    }
}

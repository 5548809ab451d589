//! The feed's cursor: a position in the order of revocations, and the epoch in which that order holds.

use std::{cmp::Ordering, fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// The first byte of a cursor with an epoch.
const FORMAT: u8 = 2;

/// Format byte, epoch, position.
const LENGTH: usize = 17;

/// The longest text that is kept as a cursor. The server's have at most 23 characters.
const LONGEST: usize = 128;

/// How far knowledge of revocations reaches. A heartbeat carries one; so does the answer of every call that revokes.
///
/// Two cursors of one epoch are ordered by their positions. Cursors of different epochs (the database was restored from a backup in
/// between), or of a format without one, cannot be compared: `partial_cmp` is `None`, and a verifier has not
/// yet reached such a cursor.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Cursor {
    text: Box<str>,
    /// Epoch and position, where the format is known.
    place: Option<([u8; 8], i64)>,
}

/// The text cannot be a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor")]
pub struct InvalidCursor;

impl Cursor {
    /// The text that the server is given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether knowledge up to this cursor includes all knowledge up to `other`.
    pub fn has_reached(&self, other: &Self) -> bool {
        self.partial_cmp(other).is_some_and(Ordering::is_ge)
    }

    /// Whether both orders of positions are the same, as far as one can tell.
    pub(crate) fn is_of_epoch_of(&self, other: &Self) -> bool {
        match (self.place, other.place) {
            (Some((mine, _)), Some((theirs, _))) => mine == theirs,
            (None, None) => true,
            _ => false,
        }
    }
}

impl PartialOrd for Cursor {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let ((mine, here), (theirs, there)) = (self.place?, other.place?);
        (mine == theirs).then(|| here.cmp(&there))
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    /// Any short base64url text is a cursor: a server may know formats that this crate does not.
    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        if text.is_empty() || text.len() > LONGEST {
            return Err(InvalidCursor);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
        let place = match bytes.first() {
            Some(&FORMAT) => Some(place(&bytes).ok_or(InvalidCursor)?),
            _ => None,
        };
        // Zeros stand for an epoch that the server does not know.
        let place = place.filter(|(epoch, _)| *epoch != [0; 8]);
        Ok(Self {
            text: text.into(),
            place,
        })
    }
}

fn place(bytes: &[u8]) -> Option<([u8; 8], i64)> {
    if bytes.len() != LENGTH {
        return None;
    }
    let epoch = bytes[1..9].try_into().ok()?;
    let position = i64::from_be_bytes(bytes[9..].try_into().ok()?);
    (position >= 0).then_some((epoch, position))
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cursor(epoch: u8, position: i64) -> Cursor {
        let mut bytes = vec![FORMAT];
        bytes.extend([epoch; 8]);
        bytes.extend(position.to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes).parse().unwrap()
    }

    #[test]
    fn cursors_of_one_epoch_are_ordered_by_position() {
        assert!(cursor(1, 7).has_reached(&cursor(1, 7)));
        assert!(cursor(1, 8).has_reached(&cursor(1, 7)));
        assert!(!cursor(1, 6).has_reached(&cursor(1, 7)));
    }

    #[test]
    fn a_cursor_of_another_epoch_or_without_one_is_not_reached() {
        assert!(!cursor(2, 9).has_reached(&cursor(1, 7)));
        let old: Cursor = "AQAAAAAAAAAB".parse().unwrap();
        assert!(!old.has_reached(&old));
        assert!(!cursor(1, 9).has_reached(&old));
        assert!(!cursor(0, 9).has_reached(&cursor(0, 9)));
        assert!(!cursor(1, 9).is_of_epoch_of(&old));
        assert!(cursor(1, 9).is_of_epoch_of(&cursor(1, 1)));
    }

    #[test]
    fn a_text_that_is_no_cursor_is_refused() {
        let negative = URL_SAFE_NO_PAD.encode([[FORMAT].as_slice(), &[255; 16]].concat());
        let short = URL_SAFE_NO_PAD.encode([FORMAT, 0, 0]);
        for text in ["", "?", "AQ==", &negative, &short, &"A".repeat(200)] {
            assert_eq!(text.parse::<Cursor>(), Err(InvalidCursor), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,40}") {
            let _ = text.parse::<Cursor>();
        }
    }
}

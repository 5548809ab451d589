//! CBOR maps (RFC 8949) as WebAuthn uses them: small, flat, each key once.

use ciborium::{Value, de::from_reader_with_recursion_limit};

/// Attestation objects nest three deep, extension outputs hardly deeper.
const MAX_DEPTH: usize = 8;
/// An attestation object has 3 entries, a COSE key 5, extension outputs a few.
const MAX_ENTRIES: usize = 32;

/// A CBOR map whose keys are distinct.
#[derive(Debug)]
pub(super) struct Map(Vec<(Value, Value)>);

impl Map {
    /// Takes one map from the front of `bytes`, which holds what follows it afterwards.
    pub(super) fn take(bytes: &mut &[u8]) -> Option<Self> {
        match from_reader_with_recursion_limit(&mut *bytes, MAX_DEPTH).ok()? {
            Value::Map(entries) => Self::of(entries),
            _ => None,
        }
    }

    /// The map that `bytes` are, with nothing behind it.
    pub(super) fn parse(mut bytes: &[u8]) -> Option<Self> {
        let map = Self::take(&mut bytes)?;
        bytes.is_empty().then_some(map)
    }

    fn of(entries: Vec<(Value, Value)>) -> Option<Self> {
        // A reader that took the first of two equal keys and one that took the last would see different maps.
        let is_repeated = |at: usize| entries[..at].iter().any(|(key, _)| *key == entries[at].0);
        let is_sound = entries.len() <= MAX_ENTRIES && !(0..entries.len()).any(is_repeated);
        is_sound.then_some(Self(entries))
    }

    /// The value of a key that is text.
    pub(super) fn text_key(&self, key: &str) -> Option<&Value> {
        let entry = self.0.iter().find(|(own, _)| own.as_text() == Some(key));
        entry.map(|(_, value)| value)
    }

    /// The bytes under a key that is a number, as in a COSE key.
    pub(super) fn bytes(&self, label: i64) -> Option<&[u8]> {
        self.label(label)?.as_bytes().map(Vec::as_slice)
    }

    /// The number under a key that is a number.
    pub(super) fn integer(&self, label: i64) -> Option<i64> {
        self.label(label)?.as_integer()?.try_into().ok()
    }

    fn label(&self, label: i64) -> Option<&Value> {
        let label = Value::from(label);
        let entry = self.0.iter().find(|(own, _)| *own == label);
        entry.map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_map_that_is_cut_off_repeats_a_key_or_has_a_tail_is_refused() {
        // {1: 2, 3: h'ff'}
        let good = [0xa2, 0x01, 0x02, 0x03, 0x41, 0xff];
        let map = Map::parse(&good).unwrap();
        assert_eq!((map.integer(1), map.bytes(3)), (Some(2), Some(&[0xff][..])));
        assert_eq!((map.integer(3), map.bytes(1)), (None, None));
        for end in 0..good.len() {
            assert!(Map::parse(&good[..end]).is_none());
        }
        let with_tail = [&good[..], &[0]].concat();
        assert!(Map::parse(&with_tail).is_none());
        let mut rest = with_tail.as_slice();
        assert!(Map::take(&mut rest).is_some());
        assert_eq!(rest, [0]);
        // {1: 2, 1: 3}
        assert!(Map::parse(&[0xa2, 0x01, 0x02, 0x01, 0x03]).is_none());
    }

    #[test]
    fn a_length_or_a_depth_beyond_the_input_is_refused() {
        // A map of 2^32 entries, a byte string of 2^63 bytes, 1,000 arrays in each other.
        assert!(Map::parse(&[0xba, 0xff, 0xff, 0xff, 0xff, 0x01]).is_none());
        let long = [&[0xa1, 0x01, 0x5b, 0x7f][..], &[0xff; 7]].concat();
        assert!(Map::parse(&long).is_none());
        let deep = [&[0xa1, 0x01][..], &[0x81; 1_000], &[0x01]].concat();
        assert!(Map::parse(&deep).is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Map::parse(&bytes);
        }
    }
}

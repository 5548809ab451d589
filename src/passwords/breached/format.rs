//! The bytes of a filter file, version 1. Numbers are little endian.
//!
//! ```text
//! 8 bytes   "CSBREACH"
//! u32       version: 1
//! u32       bits of a fingerprint: 16
//! u64       passwords in the list
//! u64       bytes of the whole file
//! 256 times u64 seed, u32 segment length, u32 length of all segment starts: one shard for each first byte of the SHA-1
//! u16 …     the fingerprints of all shards, one shard after the other
//! 32 bytes  SHA-256 of everything before
//! ```
//!
//! A shard is a binary fuse filter of arity 3 (Graf and Lemire, "Binary Fuse Filters: Fast and Smaller Than Xor
//! Filters", 2022) as the crate `xorf` builds it, over the first eight bytes of each SHA-1, big endian. A shard without
//! passwords is all zeros and has no fingerprints.

use xorf::{BinaryFuse16, Descriptor};

pub(super) const MAGIC: [u8; 8] = *b"CSBREACH";
pub(super) const VERSION: u32 = 1;
pub(super) const FINGERPRINT_BITS: u32 = 16;
pub(super) const SHARDS: usize = 256;
pub(super) const CHECKSUM_BYTES: usize = 32;
pub(super) const FINGERPRINT_BYTES: usize = 2;

const FIXED_BYTES: usize = 32;
const SHARD_BYTES: usize = 16;
pub(super) const HEADER_BYTES: usize = FIXED_BYTES + SHARDS * SHARD_BYTES;

/// xorf makes no longer ones.
const MAX_SEGMENT_LENGTH: u32 = 1 << 18;

/// The parameters of one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shard {
    pub seed: u64,
    pub segment_length: u32,
    /// The first of the three positions of a key is below it.
    pub segment_count_length: u32,
}

impl Shard {
    /// How many fingerprints the shard has.
    pub(super) const fn fingerprints(self) -> usize {
        self.segment_count_length as usize + 2 * self.segment_length as usize
    }

    /// Whether every position of every key lies within the fingerprints.
    pub(super) fn is_sound(self) -> bool {
        let Self {
            segment_length,
            segment_count_length,
            ..
        } = self;
        self == Self::default()
            || segment_length.is_power_of_two()
                && segment_length <= MAX_SEGMENT_LENGTH
                && segment_count_length > 0
                && segment_count_length.is_multiple_of(segment_length)
                // xorf computes positions in 32 bits.
                && segment_count_length <= u32::MAX - 2 * MAX_SEGMENT_LENGTH
    }

    /// The filter with these fingerprints; `None` when the shard has no passwords, or not so many fingerprints. With what is
    /// returned, xorf reads within the fingerprints for every key.
    pub(super) fn filter(self, fingerprints: Box<[u16]>) -> Option<BinaryFuse16> {
        let Self {
            seed,
            segment_length,
            segment_count_length,
        } = self;
        let is_whole = self.is_sound() && self.fingerprints() == fingerprints.len();
        let descriptor = Descriptor {
            seed,
            segment_length,
            segment_length_mask: segment_length.wrapping_sub(1),
            segment_count_length,
        };
        (is_whole && !fingerprints.is_empty()).then_some(BinaryFuse16 {
            descriptor,
            fingerprints,
        })
    }
}

/// The header of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub passwords: u64,
    pub file_bytes: u64,
    pub shards: Vec<Shard>,
}

impl Header {
    pub(super) fn write(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(FINGERPRINT_BITS.to_le_bytes());
        bytes.extend(self.passwords.to_le_bytes());
        bytes.extend(self.file_bytes.to_le_bytes());
        for shard in &self.shards {
            bytes.extend(shard.seed.to_le_bytes());
            bytes.extend(shard.segment_length.to_le_bytes());
            bytes.extend(shard.segment_count_length.to_le_bytes());
        }
        bytes
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(super) fn read(bytes: &[u8; HEADER_BYTES]) -> Result<Self, &'static str> {
        let (fixed, shards) = bytes.split_at(FIXED_BYTES);
        let mut fixed = Fields(fixed);
        if fixed.take() != MAGIC {
            return Err("it is no filter of breached passwords");
        }
        if u32::from_le_bytes(fixed.take()) != VERSION {
            return Err("it has a version that this program does not know");
        }
        if u32::from_le_bytes(fixed.take()) != FINGERPRINT_BITS {
            return Err("it has fingerprints of another size");
        }
        let passwords = u64::from_le_bytes(fixed.take());
        let file_bytes = u64::from_le_bytes(fixed.take());
        let shard = |bytes: &[u8]| {
            let mut fields = Fields(bytes);
            Shard {
                seed: u64::from_le_bytes(fields.take()),
                segment_length: u32::from_le_bytes(fields.take()),
                segment_count_length: u32::from_le_bytes(fields.take()),
            }
        };
        let shards: Vec<Shard> = shards.chunks_exact(SHARD_BYTES).map(shard).collect();
        if !shards.iter().all(|shard| shard.is_sound()) {
            return Err("its header is damaged");
        }
        let header = Self {
            passwords,
            file_bytes,
            shards,
        };
        if header.bytes_of_contents() == header.file_bytes {
            Ok(header)
        } else {
            Err("its header is damaged")
        }
    }

    /// How long the file is, by its shards.
    pub(super) fn bytes_of_contents(&self) -> u64 {
        let fingerprints: usize = self.shards.iter().map(|shard| shard.fingerprints()).sum();
        let bytes = HEADER_BYTES + fingerprints * FINGERPRINT_BYTES + CHECKSUM_BYTES;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

/// Takes numbers off the front of bytes that are long enough.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self
            .0
            .split_first_chunk()
            .expect("the lengths are constants");
        self.0 = rest;
        *field
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use xorf::Filter as _;

    use super::*;

    fn header(shard: Shard) -> Header {
        let mut header = Header {
            passwords: 7,
            file_bytes: 0,
            shards: vec![Shard::default(); SHARDS],
        };
        header.shards[3] = shard;
        header.file_bytes = header.bytes_of_contents();
        header
    }

    fn read(bytes: Vec<u8>) -> Result<Header, &'static str> {
        Header::read(&bytes.try_into().unwrap())
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let written = header(Shard {
            seed: u64::MAX - 5,
            segment_length: 8,
            segment_count_length: 24,
        });
        assert_eq!(written.write().len(), HEADER_BYTES);
        assert_eq!(read(written.write()).unwrap(), written);
    }

    #[test]
    fn a_shard_whose_positions_could_lie_outside_is_refused() {
        for (segment_length, segment_count_length) in [
            (0, 8),
            (8, 0),
            (6, 24),
            (8, 25),
            (1 << 19, 1 << 19),
            (8, u32::MAX - 7),
        ] {
            let shard = Shard {
                seed: 1,
                segment_length,
                segment_count_length,
            };
            assert!(read(header(shard).write()).is_err(), "{shard:?}");
        }
    }

    proptest! {
        #[test]
        fn no_key_makes_the_filter_of_a_sound_shard_panic(
            seed: u64, log in 0_u32..=18, segments in 1_u32..40, keys in prop::collection::vec(any::<u64>(), 1..50),
        ) {
            let segment_length = 1 << log;
            let shard = Shard { seed, segment_length, segment_count_length: segments * segment_length };
            prop_assert!(shard.is_sound());
            let filter = shard.filter(vec![0; shard.fingerprints()].into()).unwrap();
            for key in keys {
                let _ = filter.contains(&key);
            }
        }

        #[test]
        fn no_bytes_make_the_header_reader_panic(
            bytes in prop::collection::vec(any::<u8>(), HEADER_BYTES), is_marked: bool,
        ) {
            let mut bytes = bytes;
            if is_marked {
                bytes[..8].copy_from_slice(&MAGIC);
                bytes[8..16].copy_from_slice(&[1, 0, 0, 0, 16, 0, 0, 0]);
            }
            let _ = read(bytes);
        }

        #[test]
        fn a_shard_that_does_not_fit_its_fingerprints_has_no_filter(
            seed: u64, segment_length: u32, segment_count_length: u32, length in 0_usize..50,
        ) {
            let shard = Shard { seed, segment_length, segment_count_length };
            let filter = shard.filter(vec![0; length].into());
            prop_assert!(filter.is_none() || shard.is_sound() && shard.fingerprints() == length);
        }
    }
}

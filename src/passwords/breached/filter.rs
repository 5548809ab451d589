//! The filter in memory: read once, checked, and asked for each new password and each right one.

use std::{
    io::{self, BufReader, Read},
    path::Path,
};

use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

use super::format::{CHECKSUM_BYTES, FINGERPRINT_BYTES, HEADER_BYTES, Header, SHARDS, Shard};
use crate::{config::open_regular, domain::Password};

/// A filter file that cannot be used. The message names the variable and the file.
#[derive(Debug, thiserror::Error)]
#[error("COUNTERSIGN_BREACHED_PASSWORDS_FILE: {path} cannot be used: {cause}")]
pub struct FilterError {
    path: String,
    cause: Cause,
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("{0}")]
    Read(#[from] io::Error),
    #[error("{0}; make it again with `countersign passwords build-filter`")]
    Damaged(&'static str),
}

/// The passwords of a list, in 18 bits each.
pub struct BreachedPasswords {
    shards: Vec<(Shard, usize)>,
    fingerprints: Box<[u16]>,
    passwords: u64,
}

impl BreachedPasswords {
    /// Reads a filter file and checks it: its form, its length, its checksum.
    ///
    /// # Errors
    /// [`FilterError`]: it cannot be read, or is not what `build` wrote.
    pub fn read(path: &Path) -> Result<Self, FilterError> {
        Self::read_checked(path).map_err(|cause| FilterError {
            path: path.display().to_string(),
            cause,
        })
    }

    fn read_checked(path: &Path) -> Result<Self, Cause> {
        let file = open_regular(path)?;
        let metadata = file.metadata()?;
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let mut bytes = [0; HEADER_BYTES];
        if metadata.len() < (HEADER_BYTES + CHECKSUM_BYTES) as u64 {
            return Err(Cause::Damaged("it is no filter of breached passwords"));
        }
        reader.read_exact(&mut bytes)?;
        let header = Header::read(&bytes).map_err(Cause::Damaged)?;
        // Before anything is allocated that a header asks for.
        if header.file_bytes != metadata.len() {
            return Err(Cause::Damaged("it is cut off, or longer than it says"));
        }
        let mut checksum = digest::Context::new(&SHA256);
        checksum.update(&bytes);
        let mut shards = Vec::with_capacity(SHARDS);
        let mut count = 0;
        for shard in header.shards {
            shards.push((shard, count));
            count += shard.fingerprints();
        }
        let fingerprints = read_fingerprints(&mut reader, count, &mut checksum)?;
        let mut expected = [0; CHECKSUM_BYTES];
        reader.read_exact(&mut expected)?;
        if checksum.finish().as_ref() != expected {
            return Err(Cause::Damaged("its checksum is wrong"));
        }
        Ok(Self {
            shards,
            fingerprints,
            passwords: header.passwords,
        })
    }

    /// How many passwords the list has that the filter was made from.
    pub const fn passwords(&self) -> u64 {
        self.passwords
    }

    /// Whether the list contains the password, as it was typed or normalised. Wrong with "yes" for one password in
    /// 65,536, never with "no".
    pub fn contains(&self, password: &Password) -> bool {
        let (typed, normalised) = (password.expose_typed(), password.expose());
        self.contains_text(typed) || (typed != normalised && self.contains_text(normalised))
    }

    fn contains_text(&self, password: &str) -> bool {
        let hash = digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
        let Some(key) = hash.as_ref().first_chunk() else {
            return false;
        };
        self.contains_key(u64::from_be_bytes(*key))
    }

    pub(super) fn contains_key(&self, key: u64) -> bool {
        let [first, ..] = key.to_be_bytes();
        let Some((shard, start)) = self.shards.get(usize::from(first)) else {
            return false;
        };
        let end = start + shard.fingerprints();
        let fingerprints = self.fingerprints.get(*start..end);
        fingerprints.is_some_and(|fingerprints| shard.contains(fingerprints, key))
    }
}

fn read_fingerprints(
    reader: &mut impl Read,
    count: usize,
    checksum: &mut digest::Context,
) -> Result<Box<[u16]>, Cause> {
    let mut fingerprints = Vec::new();
    fingerprints
        .try_reserve_exact(count)
        .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    let mut chunk = vec![0; 1 << 16];
    while fingerprints.len() < count {
        let left = (count - fingerprints.len()) * FINGERPRINT_BYTES;
        let length = chunk.len().min(left);
        let bytes = &mut chunk[..length];
        reader.read_exact(bytes)?;
        checksum.update(bytes);
        let (pairs, _) = bytes.as_chunks::<FINGERPRINT_BYTES>();
        fingerprints.extend(pairs.iter().map(|pair| u16::from_le_bytes(*pair)));
    }
    Ok(fingerprints.into_boxed_slice())
}

//! The filter in memory: read once, checked, and asked for each new password and each right one.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use xorf::{BinaryFuse16, Filter as _};

use super::format::{CHECKSUM_BYTES, FINGERPRINT_BYTES, HEADER_BYTES, Header, SHARDS};
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
    /// By the first byte of the SHA-1; `None` where the list has no password.
    shards: Vec<Option<BinaryFuse16>>,
    passwords: u64,
}

impl BreachedPasswords {
    /// Reads a filter file and checks it: its form, its length, its checksum.
    ///
    /// # Errors
    /// [`FilterError`]: it cannot be read, or is not what `build` wrote.
    pub fn read(path: &Path) -> Result<Self, FilterError> {
        Self::read_checked(path).map_err(|cause| unusable(path, cause))
    }

    fn read_checked(path: &Path) -> Result<Self, Cause> {
        let (header, mut contents) = open(path)?;
        let mut shards = Vec::with_capacity(SHARDS);
        for shard in header.shards {
            let fingerprints = contents.fingerprints(shard.fingerprints())?;
            shards.push(shard.filter(fingerprints));
        }
        contents.finish()?;
        Ok(Self {
            shards,
            passwords: header.passwords,
        })
    }

    /// Checks a filter file as [`Self::read`] does, in little memory, and returns the number of passwords in its list.
    ///
    /// # Errors
    /// Those of [`Self::read`].
    pub fn check(path: &Path) -> Result<u64, FilterError> {
        let check = || -> Result<u64, Cause> {
            let (header, mut contents) = open(path)?;
            for shard in header.shards {
                contents.pass(shard.fingerprints(), |_| {})?;
            }
            contents.finish()?;
            Ok(header.passwords)
        };
        check().map_err(|cause| unusable(path, cause))
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

    fn contains_key(&self, key: u64) -> bool {
        let [first, ..] = key.to_be_bytes();
        let shard = self.shards.get(usize::from(first));
        shard.is_some_and(|shard| shard.as_ref().is_some_and(|filter| filter.contains(&key)))
    }
}

fn unusable(path: &Path, cause: Cause) -> FilterError {
    FilterError {
        path: path.display().to_string(),
        cause,
    }
}

/// Reads the header, and checks it against the length of the file.
fn open(path: &Path) -> Result<(Header, Contents), Cause> {
    let file = open_regular(path)?;
    let metadata = file.metadata()?;
    if metadata.len() < (HEADER_BYTES + CHECKSUM_BYTES) as u64 {
        return Err(Cause::Damaged("it is no filter of breached passwords"));
    }
    let mut contents = Contents {
        reader: BufReader::with_capacity(1 << 16, file),
        checksum: digest::Context::new(&SHA256),
        chunk: vec![0; 1 << 16],
    };
    let mut bytes = [0; HEADER_BYTES];
    contents.reader.read_exact(&mut bytes)?;
    contents.checksum.update(&bytes);
    let header = Header::read(&bytes).map_err(Cause::Damaged)?;
    // Before anything is allocated that a header asks for.
    match header.file_bytes == metadata.len() {
        true => Ok((header, contents)),
        false => Err(Cause::Damaged("it is cut off, or longer than it says")),
    }
}

/// What follows the header: the fingerprints, then the checksum.
struct Contents {
    reader: BufReader<File>,
    checksum: digest::Context,
    chunk: Vec<u8>,
}

impl Contents {
    /// Reads so many fingerprints and hands over their bytes piece by piece.
    fn pass(&mut self, count: usize, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let mut left = count * FINGERPRINT_BYTES;
        while left > 0 {
            let length = self.chunk.len().min(left);
            let bytes = &mut self.chunk[..length];
            self.reader.read_exact(bytes)?;
            self.checksum.update(bytes);
            each(bytes);
            left -= length;
        }
        Ok(())
    }

    fn fingerprints(&mut self, count: usize) -> io::Result<Box<[u16]>> {
        let mut fingerprints = Vec::new();
        fingerprints
            .try_reserve_exact(count)
            .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        self.pass(count, |bytes| {
            let (pairs, _) = bytes.as_chunks::<FINGERPRINT_BYTES>();
            fingerprints.extend(pairs.iter().map(|pair| u16::from_le_bytes(*pair)));
        })?;
        Ok(fingerprints.into_boxed_slice())
    }

    /// Compares the checksum.
    fn finish(mut self) -> Result<(), Cause> {
        let mut expected = [0; CHECKSUM_BYTES];
        self.reader.read_exact(&mut expected)?;
        match self.checksum.finish().as_ref() == expected {
            true => Ok(()),
            false => Err(Cause::Damaged("its checksum is wrong")),
        }
    }
}

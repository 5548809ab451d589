//! Makes a filter file from a list, one shard after the other: the memory it takes is that of the largest shard.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{self, SHA256};
use xorf::{BinaryFuse16, Filter as _};

use super::{
    format::{CHECKSUM_BYTES, HEADER_BYTES, Header, SHARDS, Shard},
    list::{List, ListError},
};

/// Shards with fewer keys than this get keys that belong to no password: xorf builds no filter for one key.
const LEAST_KEYS: usize = 32;

/// Why there is no filter file.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The list cannot be read.
    #[error("{0}")]
    List(String),
    /// The list is not in order.
    #[error(
        "line {0} of the list is out of order: sort the list by its hashes first, with `LC_ALL=C sort`"
    )]
    Unsorted(u64),
    /// The list has no password that is seen often enough.
    #[error("the list has no password that was seen often enough")]
    Empty,
    /// The file cannot be written.
    #[error("{path} cannot be written: {cause}")]
    Write {
        /// Its path.
        path: String,
        /// What the system says.
        cause: io::Error,
    },
    /// xorf found no filter for a shard in a thousand tries.
    #[error("no filter could be built of the passwords that begin with {0:02X}")]
    NoFilter(u8),
}

impl From<ListError> for BuildError {
    fn from(error: ListError) -> Self {
        Self::List(error.to_string())
    }
}

/// A filter file that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuiltFilter {
    /// Different passwords in it.
    pub passwords: u64,
    /// Lines that were left out: seen too seldom, or repeated.
    pub left_out: u64,
    /// Bytes of the file, and roughly of the memory that it takes.
    pub bytes: u64,
}

/// Makes a filter file from the passwords of a list that were seen at least `least_count` times. A file of that name is
/// replaced at the end, all at once.
///
/// # Errors
/// [`BuildError`]. What was begun is removed.
pub fn build(list: impl BufRead, out: &Path, least_count: u64) -> Result<BuiltFilter, BuildError> {
    let mut part = PathBuf::from(out).into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let built = write_part(list, &part, least_count).and_then(|built| {
        fs::rename(&part, out).map_err(|cause| written(out, cause))?;
        Ok(built)
    });
    if built.is_err() {
        let _ = fs::remove_file(&part);
    }
    built
}

fn written(path: &Path, cause: io::Error) -> BuildError {
    BuildError::Write {
        path: path.display().to_string(),
        cause,
    }
}

fn write_part(
    list: impl BufRead,
    part: &Path,
    least_count: u64,
) -> Result<BuiltFilter, BuildError> {
    let failed = |cause| written(part, cause);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(part)
        .map_err(failed)?;
    let mut writer = BufWriter::with_capacity(1 << 16, file);
    writer.write_all(&[0; HEADER_BYTES]).map_err(failed)?;
    let mut shards = Shards::default();
    let mut list = List::new(list);
    let mut previous = None;
    let mut left_out = 0;
    while let Some(listed) = list.next()? {
        if previous.is_some_and(|previous| listed.key < previous) {
            return Err(BuildError::Unsorted(list.line()));
        }
        if listed.count < least_count || shards.last == Some(listed.key) {
            left_out += 1;
        } else {
            shards
                .add(listed.key, &mut writer)
                .map_err(|error| error.at(part))?;
        }
        previous = Some(listed.key);
    }
    let header = shards.finish(&mut writer).map_err(|error| error.at(part))?;
    let file = writer
        .into_inner()
        .map_err(|error| failed(error.into_error()))?;
    seal(file, &header).map_err(failed)?;
    Ok(BuiltFilter {
        passwords: header.passwords,
        left_out,
        bytes: header.file_bytes,
    })
}

/// Writes the header and the checksum, and forces all to the disk.
fn seal(mut file: File, header: &Header) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&header.write())?;
    file.seek(SeekFrom::Start(0))?;
    let mut checksum = digest::Context::new(&SHA256);
    let mut left = header.file_bytes - CHECKSUM_BYTES as u64;
    let mut chunk = vec![0; 1 << 16];
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
        file.read_exact(&mut chunk[..length])?;
        checksum.update(&chunk[..length]);
        left -= length as u64;
    }
    file.write_all(checksum.finish().as_ref())?;
    file.sync_all()
}

/// A failure of which the path is still to be said.
enum Failure {
    Write(io::Error),
    NoFilter(u8),
    Empty,
}

impl Failure {
    fn at(self, path: &Path) -> BuildError {
        match self {
            Self::Write(cause) => written(path, cause),
            Self::NoFilter(first) => BuildError::NoFilter(first),
            Self::Empty => BuildError::Empty,
        }
    }
}

/// The shards that are done, and the keys of the one under way.
#[derive(Default)]
struct Shards {
    done: Vec<Shard>,
    keys: Vec<u64>,
    last: Option<u64>,
    passwords: u64,
}

impl Shards {
    /// Adds a key that is greater than all before.
    fn add(&mut self, key: u64, writer: &mut impl Write) -> Result<(), Failure> {
        let [first, ..] = key.to_be_bytes();
        while self.done.len() < usize::from(first) {
            self.close(writer)?;
        }
        self.keys.push(key);
        self.last = Some(key);
        self.passwords += 1;
        Ok(())
    }

    fn finish(mut self, writer: &mut impl Write) -> Result<Header, Failure> {
        if self.passwords == 0 {
            return Err(Failure::Empty);
        }
        while self.done.len() < SHARDS {
            self.close(writer)?;
        }
        writer.flush().map_err(Failure::Write)?;
        let mut header = Header {
            passwords: self.passwords,
            file_bytes: 0,
            shards: self.done,
        };
        header.file_bytes = header.bytes_of_contents();
        Ok(header)
    }

    /// Writes the shard under way and begins the next.
    fn close(&mut self, writer: &mut impl Write) -> Result<(), Failure> {
        if self.keys.is_empty() {
            self.done.push(Shard::default());
            return Ok(());
        }
        let first = u8::try_from(self.done.len()).unwrap_or(u8::MAX);
        fill_up(&mut self.keys, first);
        let (shard, fingerprints) = filter_of(&self.keys).ok_or(Failure::NoFilter(first))?;
        for fingerprint in &fingerprints {
            writer
                .write_all(&fingerprint.to_le_bytes())
                .map_err(Failure::Write)?;
        }
        self.done.push(shard);
        self.keys.clear();
        Ok(())
    }
}

/// Adds keys to a shard that has too few.
fn fill_up(keys: &mut Vec<u64>, first: u8) {
    let mut counter = 0_u32;
    while keys.len() < LEAST_KEYS {
        let filler = digest::digest(&SHA256, &[&[first][..], &counter.to_le_bytes()].concat());
        let mut bytes = [first; 8];
        bytes[1..].copy_from_slice(&filler.as_ref()[..7]);
        let key = u64::from_be_bytes(bytes);
        if !keys.contains(&key) {
            keys.push(key);
        }
        counter += 1;
    }
}

/// Builds the filter of one shard, and tries it with every key as it will be read again.
fn filter_of(keys: &[u64]) -> Option<(Shard, Box<[u16]>)> {
    let BinaryFuse16 {
        descriptor,
        fingerprints,
    } = BinaryFuse16::try_from(keys).ok()?;
    let shard = Shard {
        seed: descriptor.seed,
        segment_length: descriptor.segment_length,
        segment_count_length: descriptor.segment_count_length,
    };
    let filter = shard.filter(fingerprints)?;
    let is_whole = keys.iter().all(|key| filter.contains(key));
    is_whole.then_some((shard, filter.fingerprints))
}

//! Reads a public list of breached passwords: a SHA-1 in hexadecimal on each line, in order, perhaps with `:` and how
//! often it was seen, as the downloader of Have I Been Pwned writes it.

use std::io::{self, BufRead, Read as _};

/// The longest line: 40 digits, a colon, 20 digits, the end of the line.
const MAX_LINE: u64 = 64;

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// The first eight bytes of the SHA-1, big endian.
    pub key: u64,
    /// How often the password was seen; 1 where the list does not say.
    pub count: u64,
}

/// Why a list cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListError {
    #[error("the list cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("line {0} is not a SHA-1 in 40 hexadecimal digits, with or without `:COUNT`")]
    Malformed(u64),
}

/// The lines of a list.
pub(super) struct List<R> {
    reader: R,
    line: u64,
    buffer: Vec<u8>,
}

impl<R: BufRead> List<R> {
    pub(super) const fn new(reader: R) -> Self {
        Self {
            reader,
            line: 0,
            buffer: Vec::new(),
        }
    }

    /// The number of the line read last, from 1.
    pub(super) const fn line(&self) -> u64 {
        self.line
    }

    /// The next line; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Listed>, ListError> {
        self.buffer.clear();
        let mut bounded = (&mut self.reader).take(MAX_LINE);
        if bounded.read_until(b'\n', &mut self.buffer)? == 0 {
            return Ok(None);
        }
        self.line += 1;
        let line = self.buffer.trim_ascii_end();
        parse(line).map(Some).ok_or(ListError::Malformed(self.line))
    }
}

fn parse(line: &[u8]) -> Option<Listed> {
    let (digits, rest) = line.split_at_checked(40)?;
    let mut nibbles = digits.iter().map(|digit| char::from(*digit).to_digit(16));
    let mut key = 0_u64;
    for (n, nibble) in nibbles.by_ref().enumerate() {
        let nibble = u64::from(nibble?);
        if n < 16 {
            key = key << 4 | nibble;
        }
    }
    let count = match rest {
        [] => 1,
        [b':', digits @ ..] if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
            str::from_utf8(digits).ok()?.parse().ok()?
        }
        _ => return None,
    };
    Some(Listed { key, count })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHA1: &str = "5BAA61E4C9B93F3F0682250B6CF8331B7EE68FD8";

    fn lines(text: &[u8]) -> Result<Vec<Listed>, ListError> {
        let mut list = List::new(text);
        let mut lines = Vec::new();
        while let Some(line) = list.next()? {
            lines.push(line);
        }
        Ok(lines)
    }

    #[test]
    fn lines_with_and_without_a_count_are_read() {
        let key = 0x5BAA_61E4_C9B9_3F3F;
        for (text, count) in [
            (SHA1.to_owned(), 1),
            (format!("{SHA1}\n"), 1),
            (format!("{SHA1}:52256179\r\n"), 52_256_179),
            (SHA1.to_lowercase(), 1),
        ] {
            assert_eq!(lines(text.as_bytes()).unwrap(), [Listed { key, count }]);
        }
    }

    #[test]
    fn other_lines_are_refused_by_their_number() {
        for bad in [
            "",
            "password",
            &SHA1[1..],
            &format!("{SHA1}0"),
            &format!("{SHA1}:"),
            &format!("{SHA1}:-1"),
            &format!("{SHA1}:99999999999999999999999"),
            &format!(" {SHA1}"),
            &"A".repeat(1 << 20),
        ] {
            let text = format!("{SHA1}:1\n{bad}\n{SHA1}:1\n");
            let refused = lines(text.as_bytes()).unwrap_err();
            assert!(matches!(refused, ListError::Malformed(2)), "{refused}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(text in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = lines(&text);
        }
    }
}

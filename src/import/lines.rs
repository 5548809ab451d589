//! Lines of a file of any length, in constant memory: a line that is too long is passed over and not kept.

use std::io::{self, BufRead};

use super::reason::Reason;

/// The longest line, without its end: 64 KiB.
pub(super) const MAX_LINE: usize = 64 * 1024;

/// Reads lines.
pub(super) struct Lines<R> {
    reader: R,
    number: u64,
    buffer: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(super) const fn new(reader: R) -> Self {
        Self {
            reader,
            number: 0,
            buffer: Vec::new(),
        }
    }

    /// The next line that is not blank, with its number from 1; `None` at the end.
    ///
    /// # Errors
    /// The reader fails.
    pub(super) fn next(&mut self) -> io::Result<Option<(u64, Result<&str, Reason>)>> {
        loop {
            let Some(is_whole) = self.read_line()? else {
                return Ok(None);
            };
            self.number += 1;
            if self.number == 1 && self.buffer.starts_with(b"\xef\xbb\xbf") {
                self.buffer.drain(..3);
            }
            if !is_whole {
                return Ok(Some((self.number, Err(Reason::TooLong))));
            }
            if !self.buffer.trim_ascii().is_empty() {
                break;
            }
        }
        let line = str::from_utf8(self.buffer.trim_ascii()).map_err(|_| Reason::NotUtf8);
        Ok(Some((self.number, line)))
    }

    /// Reads one line into the buffer and says whether it fits; `None` at the end.
    fn read_line(&mut self) -> io::Result<Option<bool>> {
        self.buffer.clear();
        let (mut any, mut is_whole) = (false, true);
        loop {
            let available = match self.reader.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if available.is_empty() {
                return Ok(any.then_some(is_whole));
            }
            any = true;
            let end = available.iter().position(|byte| *byte == b'\n');
            let part = &available[..end.unwrap_or(available.len())];
            is_whole = is_whole && self.buffer.len() + part.len() <= MAX_LINE;
            if is_whole {
                self.buffer.extend_from_slice(part);
            }
            let used = part.len() + usize::from(end.is_some());
            self.reader.consume(used);
            if end.is_some() {
                return Ok(Some(is_whole));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor, Read};

    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Vec<(u64, Result<String, Reason>)> {
        let mut lines = Lines::new(BufReader::with_capacity(7, bytes));
        let mut read = Vec::new();
        while let Some((number, line)) = lines.next().unwrap() {
            read.push((number, line.map(str::to_owned)));
        }
        assert!(lines.buffer.capacity() <= 2 * MAX_LINE);
        read
    }

    #[test]
    fn lines_have_their_numbers_also_after_blank_long_and_garbled_ones() {
        let mut bytes = b"\xef\xbb\xbfone\r\n\n  \nfour\n".to_vec();
        bytes.extend(vec![b'x'; MAX_LINE + 1]);
        bytes.extend(b"\n\xff\xfe\nseven");
        let expected = [
            (1, Ok("one")),
            (4, Ok("four")),
            (5, Err(Reason::TooLong)),
            (6, Err(Reason::NotUtf8)),
            (7, Ok("seven")),
        ];
        let expected = expected.map(|(number, line)| (number, line.map(str::to_owned)));
        assert_eq!(read(&bytes), expected);
    }

    #[test]
    fn a_line_of_64_kib_is_read() {
        let line = "x".repeat(MAX_LINE);
        assert_eq!(read(line.as_bytes()), [(1, Ok(line))]);
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let endless = Cursor::new(vec![b'x'; 4096]).chain(io::repeat(b'x').take(10 << 20));
        let mut lines = Lines::new(BufReader::new(endless));
        assert_eq!(lines.next().unwrap(), Some((1, Err(Reason::TooLong))));
        assert!(lines.buffer.capacity() <= 2 * MAX_LINE);
        assert_eq!(lines.next().unwrap(), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let lines = read(&bytes).len();
            prop_assert!(lines <= bytes.split(|byte| *byte == b'\n').count());
        }
    }
}

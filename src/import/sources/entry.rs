//! What every reader of an export hands over, and why an export cannot be read.

use std::{
    io::{self, BufRead},
    ops::ControlFlow,
};

use crate::import::{Reason, Record, lines::Lines};

/// What is read besides the accounts themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct SourceOptions {
    /// Whether the names of roles are kept, except `admin` and `verifier`.
    pub keep_roles: bool,
}

/// One account of an export.
pub struct Entry {
    /// The number of its line, or, in JSON documents, of the account.
    pub line: u64,
    /// The account, or why it is none that can be imported.
    pub record: Result<Record, Reason>,
}

/// Takes one entry after the other, and says whether more are wanted.
pub type Sink<'a> = &'a mut dyn FnMut(Entry) -> ControlFlow<()>;

/// Why an export cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The document is no JSON, or has another shape.
    #[error("the document cannot be read beyond line {line}, column {column}: {what}")]
    Document {
        /// The line of the document.
        line: usize,
        /// The column in it.
        column: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// The first line of a CSV file does not name the columns that are needed.
    #[error("the first line does not name the column {0}")]
    Column(&'static str),
}

/// Hands over what `read` makes of each line; lines that are no account at all are passed over.
pub(super) fn each_line(
    reader: impl BufRead,
    sink: Sink<'_>,
    mut read: impl FnMut(&str) -> Option<Result<Record, Reason>>,
) -> io::Result<()> {
    let mut lines = Lines::new(reader);
    while let Some((line, text)) = lines.next()? {
        let record = match text {
            Ok(text) => match read(text) {
                Some(record) => record,
                None => continue,
            },
            Err(reason) => Err(reason),
        };
        if sink(Entry { line, record }).is_break() {
            break;
        }
    }
    Ok(())
}

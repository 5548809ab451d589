//! A reader that fails once too much was read for one account, or for one name of a member, so that neither takes all memory.

use std::{
    cell::Cell,
    io::{self, BufRead, Read},
    rc::Rc,
};

/// The most bytes of one account.
pub(super) const MAX_ACCOUNT: usize = 1 << 20;

/// What may still be read for the account, or the name, under way.
///
/// Blanks and commas before it count as well: serde_json and csv do not tell where it begins.
#[derive(Clone, Default)]
pub(super) struct Budget(Rc<Cell<Option<usize>>>);

impl Budget {
    /// An account or a name begins.
    pub(super) fn begin(&self) {
        self.0.set(Some(MAX_ACCOUNT));
    }

    /// What follows may have any length: it is not kept.
    pub(super) fn end(&self) {
        self.0.set(None);
    }

    fn spend(&self, bytes: usize) -> io::Result<()> {
        let Some(left) = self.0.get() else {
            return Ok(());
        };
        let left = left.checked_sub(bytes).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "an account, or the name of a member, is longer than 1 MiB",
            )
        })?;
        self.0.set(Some(left));
        Ok(())
    }
}

/// Reads within a budget.
pub(super) struct Budgeted<R> {
    reader: R,
    budget: Budget,
}

impl<R: BufRead> Budgeted<R> {
    pub(super) const fn new(reader: R, budget: Budget) -> Self {
        Self { reader, budget }
    }
}

impl<R: BufRead> Read for Budgeted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.reader.read(buffer)?;
        self.budget.spend(bytes)?;
        Ok(bytes)
    }
}

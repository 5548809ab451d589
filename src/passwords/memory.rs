//! One worker's block of memory for Argon2: allocated when first needed, kept while busy, given back when idle.

use argon2::Block;
use zeroize::Zeroize;

use super::{error::HashingFault, huge_pages};

/// The memory that one worker fills, job after job.
///
/// Reuse saves the page faults of a fresh allocation, which are a good part of a hash's cost.
///
/// It is **not wiped between jobs**: that would write all of it once more for every hash, the next job overwrites
/// it anyway, and whoever can read this process's memory finds passwords in clear on their way in.
/// It *is* wiped before it goes back to the allocator: the worker idles then, so it costs
/// nobody anything, and no later owner of those pages finds Argon2 state in them.
#[derive(Default)]
pub struct Memory {
    blocks: Vec<Block>,
    /// How many of them lie before the first huge page: written once, but never hashed in, so that all that are lie on
    /// huge pages.
    skipped: usize,
}

impl Memory {
    /// At least `count` blocks of 1 KiB, of any content.
    ///
    /// # Errors
    /// The machine has not that much: an error, where a plain `Vec` would abort the process.
    pub fn at_least(&mut self, count: usize) -> Result<&mut [Block], HashingFault> {
        if self.usable() < count {
            // Not grown in place: that would copy the old content and hold both for a moment.
            self.release();
            let room = count.saturating_add(huge_pages::margin::<Block>(count));
            self.blocks
                .try_reserve_exact(room)
                .map_err(|_| HashingFault::OutOfMemory(count))?;
            // Before it is touched: pages that are there already stay small.
            self.skipped = huge_pages::ask_for(self.blocks.spare_capacity_mut(), count);
            self.blocks.resize(self.skipped + count, Block::new());
        }
        Ok(&mut self.blocks[self.skipped..][..count])
    }

    fn usable(&self) -> usize {
        self.blocks.len() - self.skipped
    }

    /// Whether there is anything to give back.
    pub fn is_held(&self) -> bool {
        !self.blocks.is_empty()
    }

    /// Gives everything back when it is more than `count` blocks: one stored hash of unusual cost
    /// must not keep the worker fat.
    pub fn release_beyond(&mut self, count: usize) {
        if self.usable() > count {
            self.release();
        }
    }

    /// Wipes everything and gives it back.
    pub fn release(&mut self) {
        self.blocks.iter_mut().for_each(Zeroize::zeroize);
        self.blocks.clear();
        huge_pages::renounce(self.blocks.spare_capacity_mut());
        self.blocks = Vec::new();
        self.skipped = 0;
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_is_reused_and_is_given_back() {
        let mut memory = Memory::default();
        assert!(!memory.is_held());
        assert_eq!(memory.at_least(8).unwrap().len(), 8);
        let address = memory.blocks.as_ptr();
        assert_eq!(memory.at_least(4).unwrap().len(), 4);
        assert_eq!(memory.blocks.as_ptr(), address);
        memory.release_beyond(8);
        assert!(memory.is_held());
        memory.release_beyond(7);
        assert!(!memory.is_held());
        assert_eq!(memory.blocks.capacity(), 0);
    }

    #[test]
    fn as_much_as_fills_huge_pages_is_used_again_and_given_back_as_well() {
        let count = 5_000;
        let mut memory = Memory::default();
        let blocks = memory.at_least(count).unwrap();
        assert_eq!(blocks.len(), count);
        let address = blocks.as_ptr();
        assert_eq!(memory.at_least(count).unwrap().as_ptr(), address);
        memory.release_beyond(count);
        assert!(memory.is_held());
        memory.release_beyond(count - 1);
        assert!(!memory.is_held());
        assert_eq!(memory.at_least(8).unwrap().len(), 8);
    }

    #[test]
    fn what_cannot_be_had_is_an_error() {
        let fault = Memory::default().at_least(usize::MAX / 1024).unwrap_err();
        assert!(matches!(fault, HashingFault::OutOfMemory(_)));
    }
}

//! How much a foreign hash costs, and the most that those in use cost.
//!
//! Each function has its own unit, so equal work takes equal time on every processor (decision 0700).

use std::collections::BTreeMap;

use crate::passwords::error::HashingError;

/// A function whose work can be compared: amounts of one are comparable, amounts of two are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Function {
    /// Unit: one expensive key schedule round, 2^cost of them.
    Bcrypt,
    /// Unit: one HMAC, iterations times blocks of output.
    Pbkdf2Sha1,
    /// As above.
    Pbkdf2Sha256,
    /// As above.
    Pbkdf2Sha512,
    /// Unit: 128 bytes of memory written and read once, N times r times p.
    Scrypt,
    /// Unit: one round.
    Sha256Crypt,
    /// As above.
    Sha512Crypt,
    /// As above.
    PhpassMd5,
    /// As above.
    PhpassSha512,
    /// Unit: 128 bytes of memory, N times r.
    Yescrypt,
}

/// Each function, its name in stored text, and the most that one stored hash makes every failed login cost: about a second.
/// A hash above that keeps its own price, and its account alone can be told by the time of a failed login.
const FUNCTIONS: [(Function, &str, u64); 10] = [
    (Function::Bcrypt, "bcrypt", 1 << 14),
    (Function::Pbkdf2Sha1, "pbkdf2-sha1", 2_000_000),
    (Function::Pbkdf2Sha256, "pbkdf2-sha256", 2_000_000),
    (Function::Pbkdf2Sha512, "pbkdf2-sha512", 1_000_000),
    (Function::Scrypt, "scrypt", 1 << 21),
    (Function::Sha256Crypt, "sha256-crypt", 2_000_000),
    (Function::Sha512Crypt, "sha512-crypt", 1_000_000),
    (Function::PhpassMd5, "phpass-md5", 1 << 22),
    (Function::PhpassSha512, "phpass-sha512", 1 << 21),
    (Function::Yescrypt, "yescrypt", 1 << 21),
];

impl Function {
    fn row(self) -> (Self, &'static str, u64) {
        FUNCTIONS[self as usize]
    }

    /// The name in stored text.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The function of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        let row = FUNCTIONS.iter().find(|row| row.1 == name)?;
        Some(row.0)
    }
}

/// An amount of work of one function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// The function.
    pub function: Function,
    /// The amount, in the function's unit.
    pub amount: u64,
}

/// The most expensive foreign work in use, by function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MostWork(BTreeMap<Function, u64>);

impl MostWork {
    /// Takes note of work that a stored hash costs.
    pub fn note(&mut self, work: Work) {
        let amount = work.amount.min(work.function.row().2);
        let most = self.0.entry(work.function).or_default();
        *most = amount.max(*most);
    }

    /// What is left to do of all of it after `done`.
    pub fn remaining(&self, done: Option<Work>) -> Vec<Work> {
        let rest = |(&function, &most): (&Function, &u64)| {
            let done = done.filter(|done| done.function == function);
            let amount = most.saturating_sub(done.map_or(0, |done| done.amount));
            Work { function, amount }
        };
        let rests = self.0.iter().map(rest);
        rests.filter(|work| work.amount > 0).collect()
    }
}

/// Asks the system for memory of this many blocks of 128 bytes and returns it: the crates allocate by themselves, and an
/// allocation that fails there would end the process.
///
/// # Errors
/// [`HashingError::OutOfMemory`].
pub(super) fn ask_for_memory(blocks: u64) -> Result<(), HashingError> {
    let kib = usize::try_from(blocks / 8).unwrap_or(usize::MAX);
    let mut memory: Vec<u8> = Vec::new();
    let asked = memory.try_reserve_exact(kib.saturating_mul(1024));
    std::hint::black_box(memory);
    asked.map_err(|_| HashingError::OutOfMemory(kib))
}

/// The powers of two that `amount` is the sum of, the largest first, as exponents; `most` bounds each of them and those
/// below `least` are left out.
pub(super) fn powers_of_two(amount: u64, least: u32, most: u32) -> Vec<u32> {
    let mut exponents = Vec::new();
    let whole = u32::try_from(amount >> most).unwrap_or(u32::MAX);
    exponents.extend((0..whole).map(|_| most));
    let rest = (least..most).rev().filter(|n| amount >> n & 1 == 1);
    exponents.extend(rest);
    exponents
}

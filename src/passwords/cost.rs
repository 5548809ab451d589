//! What a hash costs, and how much a stored hash may cost.

use argon2::{Params, ParamsBuilder};

/// The most memory a stored hash may ask for, in KiB: 256 MiB.
///
/// A manipulated row can then not exhaust the machine. It is above what is usual for logins:
/// 7 to 46 MiB in the OWASP Password Storage Cheat Sheet, 64 MiB in the second recommendation of
/// RFC 9106 section 4, 256 MiB in libsodium's "moderate". The first recommendation of RFC 9106, 2 GiB,
/// is beyond it. A configured cost above it raises the bound to itself.
pub const MAX_STORED_MEMORY_KIB: u32 = 256 * 1024;

/// The most work a stored hash may ask for, in KiB written (memory times passes): 1 GiB, which
/// takes a worker about half a second. A configured cost above it raises the bound to itself.
pub const MAX_STORED_WORK_KIB: u64 = 1024 * 1024;

/// What one hash costs (RFC 9106 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argon2Cost {
    /// Memory, in KiB; at least 8 times `parallelism`.
    pub memory_kib: u32,
    /// Passes over that memory; at least 1.
    pub iterations: u32,
    /// Lanes. One worker computes them one after another, so more lanes make no hash faster.
    pub parallelism: u32,
}

impl Argon2Cost {
    /// The cost in these parameters.
    pub(super) const fn of(params: &Params) -> Self {
        Self {
            memory_kib: params.m_cost(),
            iterations: params.t_cost(),
            parallelism: params.p_cost(),
        }
    }

    /// Parameters of this cost, and nothing else yet.
    pub(super) fn builder(self) -> ParamsBuilder {
        let mut builder = ParamsBuilder::new();
        builder
            .m_cost(self.memory_kib)
            .t_cost(self.iterations)
            .p_cost(self.parallelism);
        builder
    }

    /// Blocks of 1 KiB that Argon2 really uses: a multiple of four for each lane (RFC 9106 section 3.2).
    pub(super) const fn blocks(self) -> u32 {
        let step = self.parallelism.saturating_mul(4);
        if step == 0 {
            return self.memory_kib;
        }
        self.memory_kib / step * step
    }

    /// The work of one hash: KiB written, in all passes together.
    pub(super) const fn work_kib(self) -> u64 {
        self.blocks() as u64 * self.iterations as u64
    }

    /// The one of the two that is more work.
    pub(super) const fn max_work(self, other: Self) -> Self {
        if other.work_kib() > self.work_kib() {
            other
        } else {
            self
        }
    }

    /// Whether a stored hash may cost this much where new ones cost `current`.
    pub(super) fn is_acceptable(self, current: Self) -> bool {
        self.memory_kib <= current.memory_kib.max(MAX_STORED_MEMORY_KIB)
            && self.work_kib() <= current.work_kib().max(MAX_STORED_WORK_KIB)
    }
}

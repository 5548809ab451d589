//! Runs Argon2 on the fastest implementation that this processor supports, in memory that is used again.
//!
//! `argon2-rust` computes with SIMD instructions (AVX-512, AVX2, SSE2, NEON). The `argon2` crate is the fallback for
//! processors without them, and the oracle of the differential test. Both compute the same function (RFC 9106), so a
//! hash made by one verifies with the other.

use std::fmt;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use argon2_rust::{Backend, Error as SimdError, params};
use zeroize::Zeroize;

use super::{Argon2Cost, error::HashingError};

/// The implementation of Argon2 that this process uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashingBackend {
    /// `argon2-rust` with these SIMD instructions.
    Simd(Backend),
    /// The `argon2` crate, without SIMD instructions.
    Portable,
}

impl HashingBackend {
    /// What this processor supports.
    pub fn detect() -> Self {
        match argon2_rust::detected_backend() {
            Backend::Scalar => Self::Portable,
            simd => Self::Simd(simd),
        }
    }

    /// `avx512`, `avx2`, `sse2`, `neon` or `portable`: for logs, metrics and `countersign --version`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Simd(backend) => backend.name(),
            Self::Portable => "portable",
        }
    }
}

impl fmt::Display for HashingBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Everything that goes into one hash (RFC 9106 section 3.1). The length of the output is that of the buffer.
#[derive(Clone, Copy)]
pub struct Argon2Input<'a> {
    /// Argon2d, Argon2i or Argon2id.
    pub algorithm: Algorithm,
    /// 0x10 or 0x13.
    pub version: Version,
    /// Memory, passes and lanes, and the associated data.
    pub params: &'a Params,
    /// The password.
    pub password: &'a [u8],
    /// The salt.
    pub salt: &'a [u8],
    /// The pepper; empty for none.
    pub secret: &'a [u8],
}

/// One worker's memory for Argon2.
///
/// It is allocated at the first hash and used again by the next ones, because the page faults of fresh memory cost up to
/// a quarter of a hash. It is wiped after every hash. `argon2-rust` maps it on huge pages where Linux grants them.
pub struct HashingMemory {
    implementation: Implementation,
    work_kib: u64,
}

enum Implementation {
    /// Boxed: it is much larger than the other.
    Simd(Box<argon2_rust::Hasher>),
    Portable(Vec<Block>),
}

impl HashingMemory {
    /// No memory yet, for the implementation of this backend.
    pub fn new(backend: HashingBackend) -> Self {
        let implementation = match backend {
            HashingBackend::Simd(_) => {
                let defaults = argon2_rust::Argon2::new(
                    argon2_rust::Algorithm::Argon2id,
                    argon2_rust::Version::V0x13,
                    argon2_rust::Params::DEFAULT,
                );
                Implementation::Simd(Box::new(defaults.hasher()))
            }
            HashingBackend::Portable => Implementation::Portable(Vec::new()),
        };
        Self {
            implementation,
            work_kib: 0,
        }
    }

    /// Computes a hash that fills `output`.
    ///
    /// # Errors
    /// [`HashingError::OutOfMemory`] when the system has not enough memory; [`HashingError::Argon2`] and
    /// [`HashingError::Argon2Simd`] when Argon2 refuses the parameters.
    pub fn hash(&mut self, input: Argon2Input<'_>, output: &mut [u8]) -> Result<(), HashingError> {
        match &mut self.implementation {
            Implementation::Simd(hasher) => hash_simd(hasher, input, output),
            Implementation::Portable(blocks) => hash_portable(blocks, input, output),
        }?;
        self.work_kib += Argon2Cost::of(input.params).work_kib();
        Ok(())
    }

    /// The work of all hashes since the last call, in KiB written.
    pub(super) const fn take_work_kib(&mut self) -> u64 {
        std::mem::replace(&mut self.work_kib, 0)
    }

    /// The memory held at the moment, in KiB.
    pub fn held_kib(&self) -> usize {
        match &self.implementation {
            Implementation::Simd(hasher) => hasher.reserved_blocks(),
            Implementation::Portable(blocks) => blocks.len(),
        }
    }

    /// Returns all memory to the system.
    pub fn release(&mut self) {
        match &mut self.implementation {
            Implementation::Simd(hasher) => hasher.clear(),
            Implementation::Portable(blocks) => *blocks = Vec::new(),
        }
    }

    /// Returns all memory to the system if it is more than `kib`: one stored hash of unusual cost must not keep a
    /// worker large.
    pub fn release_beyond(&mut self, kib: usize) {
        if self.held_kib() > kib {
            self.release();
        }
    }
}

fn hash_simd(
    hasher: &mut argon2_rust::Hasher,
    input: Argon2Input<'_>,
    output: &mut [u8],
) -> Result<(), HashingError> {
    let cost = input.params;
    let params = argon2_rust::Params::builder()
        .memory(params::Memory::kib(cost.m_cost().into()))
        .passes(cost.t_cost())
        .lanes(cost.p_cost())
        // Each worker is one thread: lanes are computed one after another.
        .threads(1)
        .tag_len(params::TagLen::bytes(output.len() as u64))
        .build()
        .map_err(HashingError::Argon2Simd)?;
    let algorithm = match input.algorithm {
        Algorithm::Argon2d => argon2_rust::Algorithm::Argon2d,
        Algorithm::Argon2i => argon2_rust::Algorithm::Argon2i,
        Algorithm::Argon2id => argon2_rust::Algorithm::Argon2id,
    };
    let version = match input.version {
        Version::V0x10 => argon2_rust::Version::V0x10,
        Version::V0x13 => argon2_rust::Version::V0x13,
    };
    hasher.set_argon2(argon2_rust::Argon2::new(algorithm, version, params));
    let (secret, data) = (input.secret, cost.data());
    hasher
        .hash_into_with_ad(input.password, input.salt, secret, data, output)
        .map_err(|error| match error {
            SimdError::MemoryAllocationError => HashingError::OutOfMemory(cost.block_count()),
            error => HashingError::Argon2Simd(error),
        })
}

fn hash_portable(
    blocks: &mut Vec<Block>,
    input: Argon2Input<'_>,
    output: &mut [u8],
) -> Result<(), HashingError> {
    let count = input.params.block_count();
    if blocks.len() < count {
        // Freed first: growing in place would hold the old memory and the new for a moment.
        *blocks = Vec::new();
        blocks
            .try_reserve_exact(count)
            .map_err(|_| HashingError::OutOfMemory(count))?;
        blocks.resize(count, Block::new());
    }
    let (algorithm, version, params) = (input.algorithm, input.version, input.params.clone());
    let argon2 = if input.secret.is_empty() {
        Argon2::new(algorithm, version, params)
    } else {
        Argon2::new_with_secret(input.secret, algorithm, version, params)?
    };
    let blocks = &mut blocks[..count];
    let done =
        argon2.hash_password_into_with_memory(input.password, input.salt, output, &mut *blocks);
    blocks.iter_mut().for_each(Zeroize::zeroize);
    Ok(done?)
}

#[cfg(test)]
#[path = "argon2id_tests.rs"]
mod tests;

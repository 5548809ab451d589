//! Passwords that are known from breaches: a filter file made from a public list (`build`), read at the start and asked
//! without a network (`filter`). `format` knows the bytes of the file. Decision 1203, `docs/breached-passwords.md`.
//!
//! A filter says "yes" for every password of its list, and for one in 65,536 of all others.

mod build;
mod filter;
mod format;
mod list;
#[cfg(test)]
mod tests;

pub use self::{
    build::{BuildError, BuiltFilter, build},
    filter::{BreachedPasswords, FilterError},
};

//! A wrapper for values that must never be printed, so that no log line leaks one by accident.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// A value that is wiped from memory on drop and prints as `[redacted]`.
///
/// It implements neither `Display` nor `Serialize`. Every use of the value is a call of
/// [`expose`](Secret::expose), which is easy to search for.
#[derive(Clone, ZeroizeOnDrop)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Wraps a secret value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_does_not_print_the_value() {
        assert_eq!(
            format!("{:?}", Secret::new("hunter2".to_owned())),
            "[redacted]"
        );
    }
}

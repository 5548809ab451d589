//! Derived keys for the tests of what is made with them.

use super::DerivedKeys;
use crate::{config::MasterKey, secret::Secret};

/// Keys derived from master keys, each with its version and made of 32 equal bytes; the first is active.
pub(crate) fn keys(list: &[(u8, u8)]) -> DerivedKeys {
    let masters: Vec<_> = list
        .iter()
        .map(|&(version, byte)| MasterKey {
            version,
            key: Secret::new([byte; 32]),
        })
        .collect();
    DerivedKeys::derive(&masters)
}

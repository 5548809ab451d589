//! Signing keys and the fingerprints of master keys.

pub(in crate::store) mod master_keys;
pub(in crate::store) mod signing_keys;

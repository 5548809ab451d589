//! Service accounts and their keys.

pub(in crate::store) mod accounts;
pub(in crate::store) mod directory;
pub(in crate::store) mod service_keys;

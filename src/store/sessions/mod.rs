//! Sessions: logins open them, refreshes move them on, and all that ends them.

pub(in crate::store) mod ending;
pub(in crate::store) mod epochs;
pub(in crate::store) mod login_failures;
pub(in crate::store) mod login_records;
pub(in crate::store) mod logins;
pub(in crate::store) mod records;
pub(in crate::store) mod rotation_batches;
pub(in crate::store) mod rotation_queue;
pub(in crate::store) mod rotations;
pub(in crate::store) mod session_claims;
pub(in crate::store) mod sweeps;

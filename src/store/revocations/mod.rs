//! Revocations and the feed that tells replicas and verifiers of them.

pub(in crate::store) mod changes;
pub(in crate::store) mod feed_state;
pub(in crate::store) mod records;
pub(in crate::store) mod revoking_turns;

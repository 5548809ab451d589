//! The audit trail: written with the change itself, read by lists and exports.

pub(in crate::store) mod events;
pub(in crate::store) mod log;

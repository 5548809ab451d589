//! Users: their rows, credentials and addresses; administration, import and deletion.

pub(in crate::store) mod administration;
pub(in crate::store) mod administrators;
pub(in crate::store) mod credentials;
pub(in crate::store) mod deletion;
pub(in crate::store) mod email_identities;
pub(in crate::store) mod imports;
pub(in crate::store) mod list;
pub(in crate::store) mod password_change;
pub(in crate::store) mod password_parameters;
pub(in crate::store) mod records;
pub(in crate::store) mod recovery;

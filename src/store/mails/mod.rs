//! The outbox of mails.

pub(in crate::store) mod failed;
pub(in crate::store) mod outbox;

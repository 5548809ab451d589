//! Services that prove who they are: trusted issuers, service accounts and their keys, in memory.

pub mod issuers;

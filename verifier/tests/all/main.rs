//! Tests of the crate as its callers see it, against a feed server of their own. They need no database and no other process.

mod bad_days;
mod feed;
mod policies;
mod support;

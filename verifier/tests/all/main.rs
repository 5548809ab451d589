//! Tests of the crate as its callers see it, against a feed server of their own. They need no database and no other process.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics says where; clippy sees the functions that tests share as code outside them"
)]

mod bad_days;
mod credentials;
mod feed;
mod layers;
mod long_outage;
mod policies;
mod support;
mod timing;
mod vectors;

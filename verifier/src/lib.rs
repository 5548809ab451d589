//! Verifies Countersign's access tokens inside a service: by signature, by audience and roles, and by every revocation, which
//! arrives within a second. No call is made for a token, and verification goes on while the server is away.

mod ask;
mod cache;
mod claims;
mod clock;
mod config;
mod credential;
mod crypto;
mod cursor;
mod demand;
mod error;
mod feed;
mod id;
mod key_fetch;
mod keys;
mod local;
#[doc(hidden)]
pub mod pb;
mod revocations;
mod shared;
mod state;
mod token;
mod verifier;

pub use self::{
    claims::{Actor, Claims},
    config::{StalePolicy, VerifierConfig},
    credential::{BearerFuture, BearerSource, Credential, CredentialError},
    cursor::{Cursor, InvalidCursor},
    demand::Demand,
    error::VerifyError,
    id::{Id, InvalidId},
    keys::InvalidJwks,
    local::LocalVerifier,
    state::{FeedStatus, VerifierState},
    verifier::{ConnectError, Verifier},
};

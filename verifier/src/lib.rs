//! The crate's documentation is its README.

#![doc = include_str!("../README.md")]

mod ask;
mod cache;
mod claims;
mod clock;
mod config;
mod credential;
mod crypto;
mod cursor;
mod demand;
mod endpoint;
mod error;
mod feed;
#[doc(hidden)]
pub mod fuzzing;
mod id;
mod issued_token;
mod key_fetch;
mod keys;
mod layers;
mod local;
mod login;
#[doc(hidden)]
pub mod pb;
mod revocations;
mod shared;
mod source;
mod state;
mod token;
mod verifier;

#[doc(hidden)]
pub use self::clock::ManualClock;
pub use self::{
    claims::{Actor, Claims, PrincipalType},
    config::{StalePolicy, VerifierConfig},
    credential::Credential,
    cursor::{Cursor, InvalidCursor},
    demand::Demand,
    endpoint::{ConnectError, IntoEndpoint},
    error::VerifyError,
    id::{Id, InvalidId},
    keys::InvalidJwks,
    layers::{BearerToken, RequireToken, RequireTokenService},
    local::LocalVerifier,
    source::{BearerFuture, BearerSource, CredentialError},
    state::{FeedStatus, VerifierState},
    verifier::Verifier,
};

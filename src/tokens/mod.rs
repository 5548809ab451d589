//! Tokens: their keys, the JWT access token and the MAC refresh token.

mod access;
mod algorithm;
mod cache;
mod challenge;
mod claims;
mod confirmation;
mod delegation;
mod derived_keys;
mod device;
mod error;
mod jwks;
mod key_age;
mod keyring;
mod lifecycle;
pub(crate) mod mac_text;
mod new_key;
mod one_time;
mod page_token;
mod refresh;
mod rewrap;
mod rotation;
mod sealing;
mod signing_key;
mod stored_key;
#[cfg(test)]
pub(crate) mod test_keys;
mod webauthn_challenge;

pub use access::{AccessProfile, AccessTokenError, IssuedAccessToken, Subject};
pub use cache::{VerifiedClaims, VerifiedTokens};
pub use challenge::{CHALLENGE_TTL, Challenge, ChallengePurpose, NewChallenge, PendingLogin};
pub use claims::{AccessClaims, Actor, MAX_ACTORS, PrincipalType};
pub use delegation::{Delegation, ServiceSubject};
pub use derived_keys::{DerivedKeys, KeySet};
pub use device::KnownDevice;
pub use error::KeyringError;
pub use jwks::JwksDocument;
pub use keyring::Keyring;
pub use lifecycle::{KeyState, SigningPolicy};
pub use one_time::{OneTimePurpose, OneTimeToken};
pub use refresh::{ParsedRefreshToken, RefreshTokenError};
pub use rewrap::{check_master_keys, reseal};
pub use rotation::{SigningKeyInfo, describe};
pub use sealing::UnsealError;
pub use signing_key::SigningKey;

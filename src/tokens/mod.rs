//! Tokens: the keys they hang on, the JWT access token and the MAC refresh token.

mod access;
mod cache;
mod derived_keys;
mod keyring;
mod refresh;
mod sealing;
mod signing_key;

pub use access::{AccessClaims, AccessProfile, AccessTokenError, IssuedAccessToken, Subject};
pub use cache::{VerifiedClaims, VerifiedTokens};
pub use derived_keys::{DerivedKeys, KeySet};
pub use keyring::{Keyring, KeyringError};
pub use refresh::{ParsedRefreshToken, RefreshTokenError};
pub use signing_key::SigningKey;

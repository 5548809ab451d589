//! Passkeys as second factors.

use super::{Auth, AuthError, factor_attempts::JudgedFactor};
use crate::{domain::UserId, tokens::Challenge};

impl Auth {
    /// Judges what a passkey answered. No user can have one yet, so no answer is right.
    #[expect(
        clippy::unused_async,
        reason = "looks passkeys up once there can be some"
    )]
    pub(super) async fn judge_passkey(
        &self,
        _challenge: &Challenge,
        _user: UserId,
        _response_json: &str,
    ) -> Result<Option<JudgedFactor>, AuthError> {
        Ok(None)
    }

    /// What a browser is asked for a passkey of the user. No user can have one yet.
    #[expect(
        clippy::unused_async,
        reason = "looks passkeys up once there can be some"
    )]
    pub(super) async fn passkey_request_options(
        &self,
        _challenge: &Challenge,
        _user: UserId,
    ) -> Result<String, AuthError> {
        Ok(String::new())
    }
}

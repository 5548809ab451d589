//! The challenge that Login returns after the correct password of a user with a second factor.

use crate::{clock::Timestamp, domain::FactorKinds, secret::Secret};

/// A login that waits for a second factor. There is no session yet.
pub struct LoginChallenge {
    /// For CompleteLogin.
    pub token: Secret<String>,
    /// The factors that the user has.
    pub factor_kinds: FactorKinds,
    /// What the browser is asked for a passkey, in JSON; empty where the user has none.
    pub request_options: String,
    /// When the challenge expires.
    pub expires_at: Timestamp,
}

//! Claim `cnf`: the client certificate that a token is bound to (RFC 8705 section 3.1).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

/// The claim as it is written.
#[derive(Serialize)]
pub(super) struct ConfirmationOut {
    #[serde(rename = "x5t#S256")]
    certificate: String,
}

impl ConfirmationOut {
    /// By the SHA-256 of a certificate in DER.
    pub(super) fn of(sha256: &[u8; 32]) -> Self {
        Self {
            certificate: URL_SAFE_NO_PAD.encode(sha256),
        }
    }
}

/// The claim as it is read. A way of confirmation that is not known here cannot be checked, so it is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfirmationIn {
    #[serde(rename = "x5t#S256")]
    certificate: String,
}

impl ConfirmationIn {
    /// The SHA-256 of the certificate; `None` when it is none.
    pub(super) fn sha256(&self) -> Option<[u8; 32]> {
        let decoded = URL_SAFE_NO_PAD.decode(&self.certificate).ok()?;
        decoded.try_into().ok()
    }
}

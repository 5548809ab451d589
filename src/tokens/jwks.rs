//! The JWKS document: the public keys that verify access tokens (RFC 7517 section 5).

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::JwkSet;

use super::SigningKey;

/// The JWKS as it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwksDocument {
    /// The document.
    pub json: String,
    /// Its entity tag (RFC 9110 section 8.8.3), quotes included: another document has another.
    pub etag: String,
}

impl JwksDocument {
    pub(super) fn of(keys: &[Arc<SigningKey>]) -> Self {
        let keys = keys.iter().map(|key| key.jwk().clone()).collect();
        let json = serde_json::to_string(&JwkSet { keys }).expect("public keys are plain text");
        let hash = digest(&SHA256, json.as_bytes());
        let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(hash));
        Self { json, etag }
    }
}

//! What a page sends: `PublicKeyCredential.toJSON()` (WebAuthn section 5.1, `RegistrationResponseJSON` and
//! `AuthenticationResponseJSON`).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, de::Error as _};

use super::refusal::PasskeyRefusal;

/// The longest response that is read, in bytes. Real ones have 1 to 4 KiB; an attestation with a chain of certificates
/// hardly more than 8.
pub const MAX_LENGTH: usize = 16 * 1024;

/// A response of either kind.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CredentialJson<R> {
    id: Base64Url,
    raw_id: Base64Url,
    #[serde(rename = "type")]
    kind: Kind,
    response: R,
}

/// The only kind of credential that there is.
#[derive(Debug, Deserialize)]
enum Kind {
    #[serde(rename = "public-key")]
    PublicKey,
}

/// The response of a registration.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AttestationResponse {
    #[serde(rename = "clientDataJSON")]
    pub(super) client_data: Base64Url,
    pub(super) attestation_object: Base64Url,
    #[serde(default)]
    pub(super) transports: Vec<String>,
}

/// The response of an authentication.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AssertionResponse {
    #[serde(rename = "clientDataJSON")]
    pub(super) client_data: Base64Url,
    pub(super) authenticator_data: Base64Url,
    pub(super) signature: Base64Url,
    #[serde(default)]
    pub(super) user_handle: Option<Base64Url>,
}

/// Bytes as base64url without padding.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Base64Url(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for Base64Url {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = URL_SAFE_NO_PAD.decode(text);
        bytes
            .map(Self)
            .map_err(|_| D::Error::custom("not base64url"))
    }
}

/// Reads a response and returns the credential's id with it.
pub(super) fn parse<'de, R: Deserialize<'de>>(
    json: &'de str,
) -> Result<(Vec<u8>, R), PasskeyRefusal> {
    if json.len() > MAX_LENGTH {
        return Err(PasskeyRefusal::TooLong);
    }
    let read: CredentialJson<R> = serde_json::from_str(json).map_err(|_| PasskeyRefusal::Json)?;
    let Kind::PublicKey = read.kind;
    if read.id != read.raw_id {
        return Err(PasskeyRefusal::CredentialId);
    }
    Ok((read.raw_id.0, read.response))
}

//! The client data: what the browser says about the page that asked (WebAuthn section 5.8.1).

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

use super::{refusal::PasskeyRefusal, relying_party::RelyingParty};

/// Which of the two ceremonies a response is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ceremony {
    /// `navigator.credentials.create`.
    Registration,
    /// `navigator.credentials.get`.
    Authentication,
}

impl Ceremony {
    const fn name(self) -> &'static str {
        match self {
            Self::Registration => "webauthn.create",
            Self::Authentication => "webauthn.get",
        }
    }
}

/// The members that are checked. Browsers add others, now and then on purpose with random names.
#[derive(Deserialize)]
struct ClientData<'a> {
    #[serde(borrow, rename = "type")]
    ceremony: Cow<'a, str>,
    #[serde(borrow)]
    challenge: Cow<'a, str>,
    #[serde(borrow)]
    origin: Cow<'a, str>,
    #[serde(default, rename = "crossOrigin")]
    is_cross_origin: bool,
    #[serde(borrow, default, rename = "topOrigin")]
    top_origin: Option<Cow<'a, str>>,
}

/// Checks the client data of a response: steps 7 to 12 of section 7.1, steps 11 to 15 of section 7.2.
pub(super) fn check(
    json: &[u8],
    ceremony: Ceremony,
    challenge: &[u8],
    relying_party: &RelyingParty,
) -> Result<(), PasskeyRefusal> {
    let data: ClientData<'_> =
        serde_json::from_slice(json).map_err(|_| PasskeyRefusal::ClientData)?;
    if data.ceremony != ceremony.name() {
        return Err(PasskeyRefusal::Ceremony);
    }
    // The challenge is no secret of the server's: the client was given it.
    if data.challenge != URL_SAFE_NO_PAD.encode(challenge) {
        return Err(PasskeyRefusal::Challenge);
    }
    if !relying_party.has_origin(&data.origin) {
        return Err(PasskeyRefusal::Origin);
    }
    if data.is_cross_origin || data.top_origin.is_some() {
        return Err(PasskeyRefusal::CrossOrigin);
    }
    Ok(())
}

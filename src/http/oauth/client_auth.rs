//! How a client proves itself to an OAuth endpoint (RFC 6749 section 2.3, RFC 7523 section 2.2).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, header};
use zeroize::Zeroizing;

use super::{
    error::OAuthError,
    form::{Form, decoded},
};

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

const SECRET_TWICE: OAuthError =
    OAuthError::invalid_request("the client authenticates in more than one way");
const MALFORMED_BASIC: OAuthError = OAuthError::invalid_client(
    "the Authorization header is not HTTP Basic with a client id and a secret",
);

/// What the client showed.
pub(super) struct ClientCredential {
    /// The client id, where one was sent. An assertion needs none.
    pub(super) client_id: Option<String>,
    pub(super) proof: Proof,
    /// Whether it came in the Authorization header.
    pub(super) by_basic: bool,
}

/// What proves who the client is.
pub(super) enum Proof {
    /// A service key, as the client secret.
    Secret(Zeroizing<String>),
    /// A JWT of a trusted issuer.
    Assertion(Zeroizing<String>),
}

impl ClientCredential {
    /// Reads the credential; `None` when there is none.
    ///
    /// # Errors
    /// There is more than one (`invalid_request`), or one that cannot be read.
    pub(super) fn read(headers: &HeaderMap, form: &Form) -> Result<Option<Self>, OAuthError> {
        let basic = basic(headers)?;
        let secret = form.get("client_secret");
        let assertion = assertion(form)?;
        let client_id = form.get("client_id");
        let ways = [basic.is_some(), secret.is_some(), assertion.is_some()];
        if ways.into_iter().filter(|is_used| *is_used).count() > 1 {
            return Err(SECRET_TWICE);
        }
        if let Some((id, secret)) = basic {
            if client_id.is_some_and(|other| other != id.as_str()) {
                return Err(SECRET_TWICE.challenging_basic());
            }
            return Ok(Some(Self {
                client_id: Some(id.to_string()),
                proof: Proof::Secret(secret),
                by_basic: true,
            }));
        }
        let owned = |text: &str| Zeroizing::new(text.to_owned());
        let secret = secret.map(|secret| Proof::Secret(owned(secret)));
        let assertion = assertion.map(|assertion| Proof::Assertion(owned(assertion)));
        let Some(proof) = secret.or(assertion) else {
            return Ok(None);
        };
        if matches!(proof, Proof::Secret(_)) && client_id.is_none() {
            return Err(OAuthError::invalid_request("client_secret needs client_id"));
        }
        Ok(Some(Self {
            client_id: client_id.map(str::to_owned),
            proof,
            by_basic: false,
        }))
    }
}

fn assertion(form: &Form) -> Result<Option<&str>, OAuthError> {
    match (
        form.get("client_assertion_type"),
        form.get("client_assertion"),
    ) {
        (None, None) => Ok(None),
        (Some(JWT_BEARER), Some(assertion)) => Ok(Some(assertion)),
        _ => Err(OAuthError::invalid_request(
            "client_assertion needs the client_assertion_type urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        )),
    }
}

type IdAndSecret = (Zeroizing<String>, Zeroizing<String>);

/// The id and secret of HTTP Basic. Both are form-encoded before they are joined (RFC 6749 section 2.3.1). Not every client
/// does that, but ids and service keys have no character that decoding would change.
fn basic(headers: &HeaderMap) -> Result<Option<IdAndSecret>, OAuthError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(SECRET_TWICE);
    }
    let encoded = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
        .map(|(_, encoded)| encoded.trim())
        .ok_or(OAuthError::invalid_client(
            "the Authorization header must be HTTP Basic",
        ))?;
    read_basic(encoded)
        .ok_or(MALFORMED_BASIC.challenging_basic())
        .map(Some)
}

fn read_basic(encoded: &str) -> Option<IdAndSecret> {
    let bytes = Zeroizing::new(STANDARD.decode(encoded).ok()?);
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    let (id, secret) = bytes.split_at(colon);
    let id = decoded(id).ok()?;
    let secret = decoded(secret.get(1..)?).ok()?;
    (!id.is_empty() && !secret.is_empty()).then_some((id, secret))
}

#[cfg(test)]
#[path = "client_auth_tests.rs"]
mod tests;

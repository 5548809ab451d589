//! One access token: a JWT with the profile of RFC 9068, judged as RFC 8725 advises.
//!
//! The rules are those of the server's own verification, so that a verifier accepts exactly what the server accepts.

use std::{borrow::Cow, fmt};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};

use crate::{
    claims::{Actor, Claims, PrincipalType},
    clock::UnixMillis,
    keys::KeySet,
};

/// RFC 9068 section 2.1; keeps an ID token or any other JWT from passing as an access token.
const TOKEN_TYPE: &str = "at+jwt";

/// In bytes. Anything longer is refused before it is decoded.
pub(crate) const MAX_LENGTH: usize = 8 * 1024;

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Invalid,
    /// Of our type, and its key is not known.
    KeyUnknown,
}

/// The header members that are read. `jku`, `x5u`, `x5c` and `jwk` are ignored: a token does not decide which key
/// verifies it. `crit` names extensions that must be understood, and there are none (RFC 7515 section 4.1.11).
#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow)]
    typ: Cow<'a, str>,
    #[serde(borrow)]
    kid: Cow<'a, str>,
    /// Whether it is present; an `Option` would take `null` for its absence.
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    iss: Cow<'a, str>,
    #[serde(borrow)]
    sub: Cow<'a, str>,
    #[serde(deserialize_with = "one_or_many")]
    aud: Vec<String>,
    exp: i64,
    iat: i64,
    #[serde(borrow)]
    jti: Cow<'a, str>,
    #[serde(borrow)]
    sid: Cow<'a, str>,
    roles: Vec<String>,
    client_id: String,
    #[serde(default, deserialize_with = "not_null")]
    auth_time: Option<i64>,
    #[serde(default)]
    amr: Vec<String>,
    #[serde(default, deserialize_with = "not_null")]
    acr: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    principal_type: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    act: Option<Act>,
    #[serde(default, deserialize_with = "not_null")]
    cnf: Option<Confirmation>,
}

#[derive(Deserialize)]
struct Act {
    sub: String,
    #[serde(default, deserialize_with = "not_null")]
    sid: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    jti: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    client_id: Option<String>,
    #[serde(rename = "act", default, deserialize_with = "not_null")]
    before: Option<Box<Self>>,
}

/// Another member would bind the token to something that cannot be checked here, so it is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirmation {
    #[serde(rename = "x5t#S256")]
    certificate: String,
}

/// Checks everything that stays true as long as the key is accepted: form, signature, issuer, audience.
pub(crate) fn verify(
    token: &str,
    keys: &KeySet,
    issuer: &str,
    audiences: &[String],
) -> Result<Claims, Refusal> {
    if token.len() > MAX_LENGTH {
        return Err(Refusal::Invalid);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(Refusal::Invalid)?;
    let (header, payload) = message.split_once('.').ok_or(Refusal::Invalid)?;
    let header = decode(header)?;
    let header: Header<'_> = object(&header)?;
    if header.typ != TOKEN_TYPE || header.crit {
        return Err(Refusal::Invalid);
    }
    let key = keys.find(&header.kid).ok_or(Refusal::KeyUnknown)?;
    let signature = decode(signature)?;
    if !key.algorithm.is_called(&header.alg) || !key.verifies(message.as_bytes(), &signature) {
        return Err(Refusal::Invalid);
    }
    let claims = claims(payload, &header.kid)?;
    let is_for_us = claims.audiences.iter().any(|aud| audiences.contains(aud));
    if claims.issuer != issuer || !is_for_us {
        return Err(Refusal::Invalid);
    }
    Ok(claims)
}

/// The claims of a token that the server has verified.
pub(crate) fn read_without_verifying(token: &str) -> Option<Claims> {
    let mut parts = token.split('.');
    let header = decode(parts.next()?).ok()?;
    let header: Header<'_> = object(&header).ok()?;
    claims(parts.next()?, &header.kid).ok()
}

fn claims(payload: &str, key_id: &str) -> Result<Claims, Refusal> {
    let payload = decode(payload)?;
    let payload: Payload<'_> = object(&payload)?;
    let id = |text: &str| text.parse().map_err(|_| Refusal::Invalid);
    Ok(Claims {
        subject: id(&payload.sub)?,
        session_id: id(&payload.sid)?,
        token_id: id(&payload.jti)?,
        issuer: payload.iss.into_owned(),
        audiences: payload.aud,
        roles: payload.roles,
        client_id: payload.client_id,
        acr: payload.acr,
        amr: payload.amr,
        principal_type: match payload.principal_type.as_deref() {
            None => PrincipalType::User,
            Some("service") => PrincipalType::Service,
            // What a newer server means by it must not pass for a user.
            Some(_) => return Err(Refusal::Invalid),
        },
        actor: payload.act.map(actor).transpose()?,
        certificate_sha256: payload.cnf.map(certificate).transpose()?,
        key_id: key_id.to_owned(),
        issued_at: UnixMillis::from_seconds(payload.iat),
        expires_at: UnixMillis::from_seconds(payload.exp),
        authenticated_at: payload.auth_time.map(UnixMillis::from_seconds),
    })
}

fn actor(act: Act) -> Result<Actor, Refusal> {
    let id = |text: Option<String>| {
        let id = text.map(|text| text.parse().map_err(|_| Refusal::Invalid));
        id.transpose()
    };
    let before = act.before.map(|inner| actor(*inner)).transpose()?;
    Ok(Actor {
        subject: act.sub,
        session_id: id(act.sid)?,
        token_id: id(act.jti)?,
        client_id: act.client_id,
        actor: before.map(Box::new),
    })
}

#[expect(clippy::needless_pass_by_value, reason = "it is mapped over an option")]
fn certificate(confirmation: Confirmation) -> Result<[u8; 32], Refusal> {
    let hash = decode(&confirmation.certificate)?;
    hash.try_into().map_err(|_| Refusal::Invalid)
}

fn decode(part: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Invalid)
}

/// Reads a JSON object. serde alone would take an array of the members' values for one, too. A member that is read and stands
/// twice is refused by serde. Members that are not read must be UTF-8, too (RFC 8725 section 3.7): `from_slice` would skip their bytes.
fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, Refusal> {
    let json = std::str::from_utf8(json).map_err(|_| Refusal::Invalid)?;
    if !json.trim_ascii_start().starts_with('{') {
        return Err(Refusal::Invalid);
    }
    serde_json::from_str(json).map_err(|_| Refusal::Invalid)
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// An `Option` alone would take `null` for an absent member.
fn not_null<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// RFC 7519 section 4.1.3 allows one audience to stand without its array.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Audiences;

    impl<'de> Visitor<'de> for Audiences {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or an array of strings")
        }

        fn visit_str<E>(self, one: &str) -> Result<Self::Value, E> {
            Ok(vec![one.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut many: A) -> Result<Self::Value, A::Error> {
            let mut audiences = Vec::with_capacity(1);
            while let Some(audience) = many.next_element()? {
                audiences.push(audience);
            }
            Ok(audiences)
        }
    }

    deserializer.deserialize_any(Audiences)
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;

//! The access token: a JWT with the profile of RFC 9068, signed and verified as RFC 8725 advises.

use std::{borrow::Cow, fmt, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, SeqAccess, Visitor},
};

use super::{Keyring, signing_key::TOKEN_TYPE};
use crate::{
    clock::Timestamp,
    domain::{Roles, SessionId, TokenId, UserId},
    secret::Secret,
};

/// The longest lifetime of an access token that production allows. Revocations and keys are kept at least so long: a token
/// may have been issued before an operator shortened the lifetime of new ones.
const LONGEST_LIFE: Duration = Duration::from_secs(30 * 60);

/// Claim `iat` lies this far back. PyJWT, joserfc and golang-jwt 4 refuse a token whose `iat` is in their future, by
/// default without any leeway; a verifier's clock may be a few seconds behind ours. Nothing here is decided by `iat`: the
/// time in `jti` is exact.
const ISSUED_BACK: Duration = Duration::from_secs(5);

/// What all access tokens of this service have in common.
#[derive(Clone, Debug)]
pub struct AccessProfile {
    /// Claim `iss`.
    pub issuer: String,
    /// What claim `aud` may hold: the services for which tokens are issued.
    pub audiences: Vec<String>,
    /// Claim `client_id` (RFC 9068 section 2.2).
    pub client_id: String,
    /// How long a token is good, or up to a twentieth less.
    pub ttl: Duration,
    /// How long past `exp` a token is still accepted, for replicas whose clocks differ.
    pub leeway: Duration,
}

/// Whom a token is issued for.
pub struct Subject<'a> {
    /// Claim `sub`.
    pub user_id: UserId,
    /// Claim `sid`.
    pub session_id: SessionId,
    /// Claim `roles`.
    pub roles: &'a Roles,
    /// Claim `aud`: the services that may accept the token.
    pub audiences: &'a [String],
    /// Claim `auth_time`.
    pub authenticated_at: Timestamp,
    /// Claim `amr` (RFC 8176).
    pub methods: &'a [String],
    /// Claim `acr`.
    pub acr: &'a str,
}

/// A new token.
pub struct IssuedAccessToken {
    /// The compact serialisation.
    pub token: Secret<String>,
    /// Claim `exp`.
    pub expires_at: Timestamp,
}

/// The claims of a verified token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessClaims {
    /// Claim `sub`.
    pub user_id: UserId,
    /// Claim `sid`.
    pub session_id: SessionId,
    /// Claim `jti`.
    pub token_id: TokenId,
    /// Claim `roles`.
    pub roles: Vec<String>,
    /// Claim `aud`.
    pub audiences: Vec<String>,
    /// Claim `iat`, some seconds before the token was issued. `token_id` has the time of issue.
    pub issued_at: Timestamp,
    /// Claim `exp`.
    pub expires_at: Timestamp,
    /// Claim `auth_time`: when the user was authenticated. `None` in tokens of the version before.
    pub authenticated_at: Option<Timestamp>,
    /// Claim `amr`: how. Empty in tokens of the version before.
    pub methods: Vec<String>,
    /// Claim `acr`: how much that is worth. Empty in tokens of the version before.
    pub acr: String,
    /// Claim `client_id`.
    pub client_id: String,
    /// Header `kid`: the key that signed it.
    pub kid: String,
}

/// Why an access token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessTokenError {
    /// It is not an access token that this service issued.
    #[error("not an access token of ours")]
    Invalid,
    /// It was valid before.
    #[error("access token expired")]
    Expired,
    /// It names a key that is not known here, while keys have not been read for so long that one may be
    /// missing. Such a token must not be called invalid.
    #[error("signing keys have not been read for too long")]
    KeyUnknown,
}

/// The header members that are read. `jku`, `x5u`, `x5c` and `jwk` are ignored: a token does not decide which key
/// verifies it. `crit` names extensions that must be understood, and this service knows none (RFC 7515 section 4.1.11).
#[derive(Deserialize)]
struct HeaderIn<'a> {
    #[serde(borrow)]
    alg: &'a str,
    #[serde(borrow)]
    typ: &'a str,
    #[serde(borrow)]
    kid: &'a str,
    /// Whether it is present; an `Option` would take `null` for its absence.
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

#[derive(Serialize)]
struct ClaimsOut<'a> {
    iss: &'a str,
    sub: String,
    aud: &'a [String],
    exp: i64,
    iat: i64,
    jti: String,
    sid: String,
    roles: Vec<&'a str>,
    client_id: &'a str,
    auth_time: i64,
    amr: &'a [String],
    acr: &'a str,
}

/// What is only compared is borrowed from the text of the token.
#[derive(Deserialize)]
struct ClaimsIn<'a> {
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
    /// It must be present (RFC 9068 section 2.2), with any value.
    #[serde(borrow)]
    client_id: Cow<'a, str>,
    /// Not in tokens of the version before, nor are the next two.
    #[serde(default, deserialize_with = "not_null")]
    auth_time: Option<i64>,
    #[serde(default)]
    amr: Vec<String>,
    #[serde(borrow, default)]
    acr: Cow<'a, str>,
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

impl AccessProfile {
    /// In bytes. Issued tokens have some 600; anything longer than this is refused before it is decoded.
    pub const MAX_TOKEN_LENGTH: usize = 8 * 1024;

    /// How long a token that was issued at any time until now may still be accepted.
    pub fn longest_life(&self) -> Duration {
        Self::longest_life_with(self.ttl, self.leeway)
    }

    /// The same, where there are no tokens to issue.
    pub fn longest_life_with(ttl: Duration, leeway: Duration) -> Duration {
        ttl.max(LONGEST_LIFE) + leeway
    }

    /// Signs a new token for `subject`. `None` when signing fails, which a loaded key does not.
    pub fn issue(
        &self,
        keyring: &Keyring,
        subject: &Subject<'_>,
        now: Timestamp,
    ) -> Option<IssuedAccessToken> {
        let key = keyring.signer(now)?;
        let token_id = TokenId::generate(now);
        let expires_at = now.floor_to_second() + shortened(self.ttl, token_id);
        let claims = ClaimsOut {
            iss: &self.issuer,
            sub: subject.user_id.to_string(),
            aud: subject.audiences,
            exp: expires_at.seconds(),
            iat: (now - ISSUED_BACK).seconds(),
            jti: token_id.to_string(),
            sid: subject.session_id.to_string(),
            roles: subject.roles.names().collect(),
            client_id: &self.client_id,
            auth_time: subject.authenticated_at.seconds(),
            amr: subject.methods,
            acr: subject.acr,
        };
        Some(IssuedAccessToken {
            token: Secret::new(key.token(&claims)?),
            expires_at,
        })
    }

    /// Checks everything about a token but its expiry: its form, its signature by a key that is accepted
    /// at `now`, its issuer and that it is meant for an audience of ours. All of it stays true until the
    /// keyring's epoch changes.
    ///
    /// # Errors
    /// [`AccessTokenError::Invalid`], whatever the cause, so that the sender learns nothing from it.
    /// [`AccessTokenError::KeyUnknown`] while keys may be missing.
    pub fn verify(
        &self,
        keyring: &Keyring,
        token: &str,
        now: Timestamp,
    ) -> Result<AccessClaims, AccessTokenError> {
        self.verified(keyring, token, now).ok_or_else(|| {
            if keyring.may_lack_keys() && names_unknown_key(keyring, token, now) {
                AccessTokenError::KeyUnknown
            } else {
                AccessTokenError::Invalid
            }
        })
    }

    /// Checks that the token has not expired.
    ///
    /// # Errors
    /// [`AccessTokenError::Expired`].
    pub fn check_expiry(
        &self,
        claims: &AccessClaims,
        now: Timestamp,
    ) -> Result<(), AccessTokenError> {
        if now < claims.expires_at + self.leeway {
            Ok(())
        } else {
            Err(AccessTokenError::Expired)
        }
    }

    fn verified(&self, keyring: &Keyring, token: &str, now: Timestamp) -> Option<AccessClaims> {
        if token.len() > Self::MAX_TOKEN_LENGTH {
            return None;
        }
        let (message, signature) = token.rsplit_once('.')?;
        let (header, payload) = message.split_once('.')?;
        let header = URL_SAFE_NO_PAD.decode(header).ok()?;
        let header: HeaderIn<'_> = object(&header)?;
        if header.typ != TOKEN_TYPE || header.crit {
            return None;
        }
        let key = keyring.find(header.kid, now)?;
        if !key.accepts_algorithm(header.alg) || !key.verifies(message.as_bytes(), signature) {
            return None;
        }
        let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
        let claims: ClaimsIn<'_> = object(&payload)?;
        self.checked(claims, header.kid)
    }

    fn checked(&self, claims: ClaimsIn<'_>, kid: &str) -> Option<AccessClaims> {
        let for_us = claims.aud.iter().any(|aud| self.audiences.contains(aud));
        if claims.iss != self.issuer || !for_us {
            return None;
        }
        Some(AccessClaims {
            user_id: claims.sub.parse().ok()?,
            session_id: claims.sid.parse().ok()?,
            token_id: claims.jti.parse().ok()?,
            roles: claims.roles,
            audiences: claims.aud,
            issued_at: Timestamp::from_seconds(claims.iat),
            expires_at: Timestamp::from_seconds(claims.exp),
            authenticated_at: claims.auth_time.map(Timestamp::from_seconds),
            methods: claims.amr,
            acr: claims.acr.into_owned(),
            client_id: claims.client_id.into_owned(),
            kid: kid.to_owned(),
        })
    }
}

/// A lifetime in whole seconds, up to a twentieth shorter, so that a fleet whose tokens were issued in one second does not
/// refresh them in one second. The random bits are those of the token's id.
fn shortened(ttl: Duration, token_id: TokenId) -> Duration {
    let seconds = ttl.as_secs();
    let [.., a, b, c, d] = *token_id.as_bytes();
    let random = u64::from(u32::from_be_bytes([a, b, c, d]));
    Duration::from_secs(seconds - random % (seconds / 20 + 1))
}

/// Reads a JSON object. serde alone would take an array of the members' values for one, too.
fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    if !json.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// An `Option` alone would take `null` for its absence.
fn not_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    i64::deserialize(deserializer).map(Some)
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// Whether it is a token of our type whose key is not known.
fn names_unknown_key(keyring: &Keyring, token: &str, now: Timestamp) -> bool {
    let header = token
        .split_once('.')
        .filter(|_| token.len() <= AccessProfile::MAX_TOKEN_LENGTH)
        .and_then(|(header, _)| URL_SAFE_NO_PAD.decode(header).ok());
    let header = header.as_deref().and_then(object::<HeaderIn<'_>>);
    header.is_some_and(|header| header.typ == TOKEN_TYPE && keyring.find(header.kid, now).is_none())
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;

//! The access token: a JWT with the profile of RFC 9068, signed and verified as RFC 8725 advises.

use std::{borrow::Cow, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

use super::{
    Keyring,
    claims::{AccessClaims, ClaimsIn, ClaimsOut, object, present},
    signing_key::TOKEN_TYPE,
};
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

/// The resolution of the time in `jti`.
const MILLISECOND: Duration = Duration::from_millis(1);

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
    /// The token is dated later than this, see [`SessionClaims::issued_after`](crate::domain::SessionClaims::issued_after).
    pub issued_after: Timestamp,
}

/// A new token.
pub struct IssuedAccessToken {
    /// The compact serialisation.
    pub token: Secret<String>,
    /// Claim `exp`.
    pub expires_at: Timestamp,
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
    /// It names a key that is not known here, while keys have not been read for so long that one may be missing; or one that
    /// cannot be opened here. Such a token must not be called invalid.
    #[error(
        "signing keys have not been read for too long, or their master key is not in COUNTERSIGN_MASTER_KEYS"
    )]
    KeyUnknown,
}

/// The header members that are read. `jku`, `x5u`, `x5c` and `jwk` are ignored: a token does not decide which key
/// verifies it. `crit` names extensions that must be understood, and this service knows none (RFC 7515 section 4.1.11).
#[derive(Deserialize)]
struct HeaderIn<'a> {
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
        // Revocations of all a user's tokens compare milliseconds.
        let token_id = TokenId::generate(now.max(subject.issued_after + MILLISECOND));
        let content = Content {
            user_id: subject.user_id,
            session_id: subject.session_id,
            token_id,
            expires_at: now.floor_to_second() + shortened(self.ttl, token_id),
        };
        let mut claims = self.claims(&content, now);
        claims.aud = subject.audiences;
        claims.roles = subject.roles.names().collect();
        claims.auth_time = Some(subject.authenticated_at.seconds());
        claims.amr = Some(subject.methods);
        claims.acr = Some(subject.acr);
        sign(keyring, &claims, content.expires_at, now)
    }

    /// The claims that every token has; audiences and roles are still to be filled in.
    pub(super) fn claims<'a>(&'a self, content: &Content, now: Timestamp) -> ClaimsOut<'a> {
        ClaimsOut {
            iss: &self.issuer,
            sub: content.user_id.to_string(),
            aud: &[],
            exp: content.expires_at.seconds(),
            iat: (now - ISSUED_BACK).seconds(),
            jti: content.token_id.to_string(),
            sid: content.session_id.to_string(),
            roles: Vec::new(),
            client_id: &self.client_id,
            auth_time: None,
            amr: None,
            acr: None,
            principal_type: None,
            act: None,
            cnf: None,
        }
    }

    /// Checks everything about a token but its expiry: its form, its signature by a key that is accepted
    /// at `now`, its issuer and that it is meant for an audience of ours. All of it stays true until the
    /// keyring's epoch changes.
    ///
    /// A token that is good for enrolling a second factor alone passes: see [`AccessClaims::is_for_enrollment`].
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
            if names_unknown_key(keyring, token, now) {
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
        let key = keyring.find(&header.kid, now)?;
        if !key.accepts_algorithm(&header.alg) || !key.verifies(message.as_bytes(), signature) {
            return None;
        }
        let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
        let claims: ClaimsIn<'_> = object(&payload)?;
        self.checked(claims, &header.kid)
    }

    fn checked(&self, claims: ClaimsIn<'_>, kid: &str) -> Option<AccessClaims> {
        if claims.iss != self.issuer {
            return None;
        }
        let claims = claims.read(kid)?;
        let is_for_us = claims
            .audiences
            .iter()
            .any(|aud| self.audiences.contains(aud));
        (is_for_us || claims.is_for_enrollment()).then_some(claims)
    }
}

/// Whom a token names, and until when it is good.
pub(super) struct Content {
    pub(super) user_id: UserId,
    pub(super) session_id: SessionId,
    pub(super) token_id: TokenId,
    pub(super) expires_at: Timestamp,
}

/// Signs the claims with the key of the moment. `None` when signing fails, which a loaded key does not.
pub(super) fn sign(
    keyring: &Keyring,
    claims: &ClaimsOut<'_>,
    expires_at: Timestamp,
    now: Timestamp,
) -> Option<IssuedAccessToken> {
    let token = keyring.signer(now)?.token(claims)?;
    Some(IssuedAccessToken {
        token: Secret::new(token),
        expires_at,
    })
}

/// A lifetime in whole seconds, up to a twentieth shorter, so that a fleet whose tokens were issued in one second does not
/// refresh them in one second. The random bits are those of the token's id.
pub(super) fn shortened(ttl: Duration, token_id: TokenId) -> Duration {
    let seconds = ttl.as_secs();
    let [.., a, b, c, d] = *token_id.as_bytes();
    let random = u64::from(u32::from_be_bytes([a, b, c, d]));
    Duration::from_secs(seconds - random % (seconds / 20 + 1))
}

/// Whether it is a token of our type whose key may be one that is not known, or not open, here.
fn names_unknown_key(keyring: &Keyring, token: &str, now: Timestamp) -> bool {
    let header = token
        .split_once('.')
        .filter(|_| token.len() <= AccessProfile::MAX_TOKEN_LENGTH)
        .and_then(|(header, _)| URL_SAFE_NO_PAD.decode(header).ok());
    let header = header.as_deref().and_then(object::<HeaderIn<'_>>);
    header.is_some_and(|HeaderIn { typ, kid, .. }| {
        typ == TOKEN_TYPE
            && keyring.find(&kid, now).is_none()
            && (keyring.may_lack_keys() || keyring.cannot_open(&kid, now))
    })
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;

//! Access tokens of services: their own, and those with which they act for users (RFC 8693).

use std::time::Duration;

use super::{
    AccessClaims, AccessProfile, Actor, IssuedAccessToken, Keyring,
    access::{Content, shortened, sign},
    claims::{ActorOut, SERVICE},
    confirmation::ConfirmationOut,
};
use crate::{
    clock::Timestamp,
    domain::{Roles, ServiceAccountId, SessionId, TokenId},
};

/// A service account that gets a token of its own.
pub struct ServiceSubject<'a> {
    /// Claim `sub`.
    pub account_id: ServiceAccountId,
    /// Claim `sid`: the key or binding by which it proved itself.
    pub session_id: SessionId,
    /// Claim `client_id`: its name.
    pub name: &'a str,
    /// Claim `roles`.
    pub roles: &'a Roles,
    /// Claim `aud`.
    pub audiences: &'a [String],
    /// The time in `jti`: up to when every change of the account was known.
    pub known_at: Timestamp,
    /// How long the token is good, or up to a twentieth less.
    pub ttl: Duration,
    /// Claim `cnf`: the SHA-256 of the client certificate that the token is bound to.
    pub certificate_sha256: Option<[u8; 32]>,
}

/// A service that acts for the user of another token.
pub struct Delegation<'a> {
    /// The claims of the user's token.
    pub subject: &'a AccessClaims,
    /// The actors, the present one first.
    pub actors: &'a [Actor],
    /// Claim `client_id`: the name of the present actor.
    pub client_id: &'a str,
    /// Claim `aud`.
    pub audiences: &'a [String],
    /// Claim `roles`.
    pub roles: &'a [String],
    /// Claim `exp`.
    pub expires_at: Timestamp,
    /// Claim `cnf`: the SHA-256 of the client certificate that the token is bound to.
    pub certificate_sha256: Option<[u8; 32]>,
}

impl AccessProfile {
    /// Signs a token for a service account. `None` when signing fails, which a loaded key does not.
    pub fn issue_to_service(
        &self,
        keyring: &Keyring,
        subject: &ServiceSubject<'_>,
        now: Timestamp,
    ) -> Option<IssuedAccessToken> {
        let token_id = TokenId::generate(subject.known_at);
        let content = Content {
            user_id: subject.account_id.into(),
            session_id: subject.session_id,
            token_id,
            expires_at: now.floor_to_second() + shortened(subject.ttl, token_id),
        };
        let mut claims = self.claims(&content, now);
        claims.aud = subject.audiences;
        claims.roles = subject.roles.names().collect();
        claims.client_id = subject.name;
        claims.principal_type = Some(SERVICE);
        claims.cnf = subject.certificate_sha256.as_ref().map(ConfirmationOut::of);
        sign(keyring, &claims, content.expires_at, now)
    }

    /// Signs a token with which a service acts for a user. `None` when signing fails, which a loaded key does not.
    ///
    /// It counts as issued when the user's token was: a revocation of that one which is not known here yet concerns this
    /// one as well.
    pub fn issue_delegated(
        &self,
        keyring: &Keyring,
        delegation: &Delegation<'_>,
        now: Timestamp,
    ) -> Option<IssuedAccessToken> {
        let subject = delegation.subject;
        let content = Content {
            user_id: subject.user_id,
            session_id: subject.session_id,
            token_id: TokenId::generate(subject.token_id.created_at()),
            expires_at: delegation.expires_at,
        };
        let mut claims = self.claims(&content, now);
        claims.aud = delegation.audiences;
        claims.roles = delegation.roles.iter().map(String::as_str).collect();
        claims.client_id = delegation.client_id;
        claims.auth_time = subject.authenticated_at.map(Timestamp::seconds);
        claims.amr = (!subject.methods.is_empty()).then_some(&subject.methods[..]);
        claims.acr = (!subject.acr.is_empty()).then_some(subject.acr.as_str());
        claims.act = ActorOut::nest(delegation.actors.iter());
        claims.cnf = delegation
            .certificate_sha256
            .as_ref()
            .map(ConfirmationOut::of);
        sign(keyring, &claims, content.expires_at, now)
    }
}

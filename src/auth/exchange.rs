//! Exchanges the token of a user for one with which a service calls the next service on behalf of the user (RFC 8693).
//!
//! The new token has no right that the user's token lacks, expires no later, and is revoked with it: it has the same
//! `sub` and `sid`, and the same time of issue for revocations. It is also revoked with the service's own token, which `act`
//! names.

use std::{sync::Arc, time::Duration};

use super::{Auth, AuthError, ClientCertificate, ValidateQuery};
use crate::{
    clock::Timestamp,
    domain::ServiceAccount,
    secret::Secret,
    tokens::{AccessClaims, Actor, Delegation, MAX_ACTORS, PrincipalType, VerifiedClaims},
};

/// The longest life of the result.
const LONGEST_LIFE: Duration = Duration::from_secs(5 * 60);

/// A request to exchange a token.
pub struct ExchangeCommand<'a> {
    /// The access token of the user, also one of an earlier exchange.
    pub subject_token: &'a str,
    /// The access token of the service that is to act.
    pub actor_token: &'a str,
    /// The audiences of the result; none: all that are allowed.
    pub audiences: &'a [String],
    /// The roles of the result; none: all that the subject token holds.
    pub roles: &'a [String],
    /// The SHA-256 of the client certificate with which the request came.
    pub certificate_sha256: Option<[u8; 32]>,
}

/// The result of an exchange.
pub struct ExchangedToken {
    /// The JWT.
    pub access_token: Secret<String>,
    /// When it expires.
    pub expires_at: Timestamp,
    /// Its audiences.
    pub audiences: Vec<String>,
}

impl Auth {
    /// Exchanges the token of a user for one with which a service acts for the user.
    ///
    /// # Errors
    /// [`AuthError::ClientCredentialInvalid`], [`AuthError::ExchangeNotAllowed`], [`AuthError::RevocationStateStale`],
    /// [`AuthError::DatabaseUnavailable`].
    pub fn exchange_token(
        &self,
        command: &ExchangeCommand<'_>,
    ) -> Result<ExchangedToken, AuthError> {
        // It may be bound to the certificate of the service that called the actor; that one the actor has compared.
        let subject = self.valid(command.subject_token, ClientCertificate::ComparedByCaller)?;
        let actor = self.valid(command.actor_token, command.certificate_sha256.into())?;
        let account = self.acting_account(&actor)?;
        if subject.principal != PrincipalType::User {
            return Err(AuthError::ExchangeNotAllowed("the subject is not a user"));
        }
        if subject.certificate_sha256.is_some() && actor.certificate_sha256.is_none() {
            // The result is bound as the actor's token is: it would be good for whoever steals it.
            let cause = "the subject token is bound to a certificate, the actor's is not";
            return Err(AuthError::ExchangeNotAllowed(cause));
        }
        if subject.actors.len() >= MAX_ACTORS {
            return Err(AuthError::ExchangeNotAllowed("the chain is too long"));
        }
        let parts = &self.parts;
        let audiences: Vec<String> = subject
            .audiences
            .iter()
            .filter(|name| account.act_for_users_at.contains(name))
            .filter(|name| parts.profile.audiences.contains(name))
            .filter(|name| command.audiences.is_empty() || command.audiences.contains(name))
            .cloned()
            .collect();
        if audiences.is_empty() {
            return Err(AuthError::ExchangeNotAllowed("no audience is left"));
        }
        let roles = narrowed_roles(&subject, command.roles)?;
        let now = parts.clock.now();
        let expires_at = subject.expires_at.min(now.floor_to_second() + LONGEST_LIFE);
        if expires_at <= now {
            // It is accepted for some leeway.
            return Err(AuthError::credential("the subject token has expired"));
        }
        let mut actors = vec![Actor {
            subject: actor.user_id,
            session_id: actor.session_id,
            token_id: actor.token_id,
        }];
        actors.extend_from_slice(&subject.actors);
        let delegation = Delegation {
            subject: &subject,
            actors: &actors,
            client_id: account.name.as_str(),
            audiences: &audiences,
            roles: &roles,
            expires_at,
            // The result is presented by the actor, as its own token is.
            certificate_sha256: actor.certificate_sha256,
        };
        let issued = parts
            .profile
            .issue_delegated(&parts.keyring, &delegation, now)
            .ok_or_else(|| AuthError::Internal("no key could sign an access token".to_owned()))?;
        Ok(ExchangedToken {
            access_token: issued.token,
            expires_at: issued.expires_at,
            audiences,
        })
    }

    /// The claims of a valid token. Whatever is wrong with it, the answer is one; that something is not known is not said
    /// to be wrong.
    fn valid(
        &self,
        access_token: &str,
        certificate: ClientCertificate,
    ) -> Result<Arc<VerifiedClaims>, AuthError> {
        let validated = self.validate(ValidateQuery::any_use_of(access_token, certificate));
        match validated {
            Ok(validated) => Ok(validated.claims),
            Err(AuthError::TokenMissing) => Err(AuthError::credential("a token is missing")),
            Err(AuthError::TokenInvalid) => {
                Err(AuthError::credential("a token is not one of ours"))
            }
            Err(AuthError::StepUpRequired { .. }) => Err(AuthError::credential(
                "a token is good for enrolling a second factor alone",
            )),
            Err(AuthError::TokenExpired) => Err(AuthError::credential("a token has expired")),
            Err(AuthError::TokenRevoked) => Err(AuthError::credential("a token is revoked")),
            Err(other) => Err(other),
        }
    }

    /// The account of the service that is to act, by the service's own token.
    fn acting_account(&self, actor: &AccessClaims) -> Result<Arc<ServiceAccount>, AuthError> {
        if actor.principal != PrincipalType::Service || !actor.actors.is_empty() {
            return Err(AuthError::credential("the actor is not a service"));
        }
        let parts = &self.parts;
        let known = parts
            .directory
            .account(actor.user_id.into(), &parts.clock)?;
        let known = known.ok_or(AuthError::credential(
            "the actor's account is disabled or deleted",
        ))?;
        Ok(known.account)
    }
}

/// The roles of the subject token that are asked for; all when none is.
fn narrowed_roles(subject: &AccessClaims, asked: &[String]) -> Result<Vec<String>, AuthError> {
    let held = subject.roles.iter();
    let kept: Vec<String> = held
        .filter(|role| asked.is_empty() || asked.contains(role))
        .cloned()
        .collect();
    if kept.is_empty() && !asked.is_empty() {
        return Err(AuthError::ExchangeNotAllowed("no role is left"));
    }
    Ok(kept)
}

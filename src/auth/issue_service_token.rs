//! Issues access tokens to services that authenticate as a service account. It answers from memory and writes nothing.

use super::{Auth, AuthError, issue::not_an_audience};
use crate::{
    clock::Timestamp,
    domain::{ServiceAccount, ServiceAccountName, SessionId},
    secret::Secret,
    tokens::ServiceSubject,
    workloads::{AccountLookup, KnownAccount},
};

/// How a service proves which service account it is.
#[derive(Clone, Copy)]
pub enum ClientCredential<'a> {
    /// A service key, `csk_…`.
    ServiceKey(&'a str),
    /// A JWT of a trusted issuer (RFC 7523 section 2.2).
    Assertion(&'a str),
}

/// An access token of a service.
pub struct IssuedServiceToken {
    /// The JWT.
    pub access_token: Secret<String>,
    /// When it expires.
    pub expires_at: Timestamp,
    /// Its audiences.
    pub audiences: Vec<String>,
    /// The name of the service account.
    pub client_id: String,
}

impl Auth {
    /// Exchanges the credential of a service account for an access token with these audiences; with the first one of the
    /// account when none is asked for. The token is bound to the client certificate with this SHA-256, if there is one
    /// (RFC 8705 section 3).
    ///
    /// # Errors
    /// [`AuthError::ClientCredentialInvalid`], [`AuthError::InvalidFields`] for an audience that the account does not have,
    /// [`AuthError::RevocationStateStale`] under the stale policy `reject`; [`AuthError::DatabaseUnavailable`] for a key
    /// that is not known here, and when the service accounts have not been read for more than a day.
    pub async fn issue_service_token(
        &self,
        credential: ClientCredential<'_>,
        audiences: &[String],
        certificate_sha256: Option<[u8; 32]>,
    ) -> Result<IssuedServiceToken, AuthError> {
        let (known, session_id) = self.authenticate_client(credential).await?;
        let parts = &self.parts;
        let monotonic = parts.clock.monotonic();
        let staleness = parts.revocations.last_read().staleness(monotonic);
        parts.settings.check_staleness(staleness)?;
        let account = &known.account;
        let audiences = audiences_for(account, audiences, &parts.profile.audiences)?;
        let subject = ServiceSubject {
            account_id: account.id,
            session_id,
            name: account.name.as_str(),
            roles: &account.roles,
            audiences: &audiences,
            known_at: known.known_at,
            ttl: parts.settings.service_token_ttl,
            certificate_sha256,
        };
        let issued = parts
            .profile
            .issue_to_service(&parts.keyring, &subject, parts.clock.now())
            .ok_or_else(|| AuthError::Internal("no key could sign an access token".to_owned()))?;
        Ok(IssuedServiceToken {
            access_token: issued.token,
            expires_at: issued.expires_at,
            audiences,
            client_id: account.name.as_str().to_owned(),
        })
    }

    /// The service account of a credential, and the claim `sid` of its tokens.
    async fn authenticate_client(
        &self,
        credential: ClientCredential<'_>,
    ) -> Result<(KnownAccount, SessionId), AuthError> {
        match credential {
            ClientCredential::ServiceKey(key) => self.authenticate_key(key).await,
            ClientCredential::Assertion(assertion) => self.authenticate_assertion(assertion).await,
        }
    }

    async fn authenticate_assertion(
        &self,
        assertion: &str,
    ) -> Result<(KnownAccount, SessionId), AuthError> {
        let parts = &self.parts;
        let now = parts.clock.now();
        let bound = parts.issuers.authenticate(assertion, now).await?;
        // The file may name an account that nobody has created.
        let name = ServiceAccountName::parse("service_account", &bound.service_account)
            .map_err(|_| AuthError::credential("the bound service account has no valid name"))?;
        let mut found = parts.directory.account_named(&name, &parts.clock)?;
        if matches!(found, AccountLookup::Unknown) {
            // Another replica may have created it a moment ago.
            parts
                .directory
                .read_again(&parts.store, &parts.clock)
                .await?;
            found = parts.directory.account_named(&name, &parts.clock)?;
        }
        match found {
            AccountLookup::Live(known) => {
                Ok((known, SessionId::from_bytes(*bound.binding_id.as_bytes())))
            }
            AccountLookup::Refused => Err(AuthError::credential(
                "the bound service account is disabled",
            )),
            AccountLookup::Unknown => Err(AuthError::credential(
                "the bound service account does not exist",
            )),
        }
    }

    async fn authenticate_key(&self, key: &str) -> Result<(KnownAccount, SessionId), AuthError> {
        let parts = &self.parts;
        let directory = &parts.directory;
        let id = parts.derived_keys.parse_service_key(key).ok_or_else(|| {
            let refusal = AuthError::credential("not a service key of ours");
            self.refused_token(key, refusal)
        })?;
        let mut found = directory.key(id, &parts.clock)?;
        if matches!(found, AccountLookup::Unknown) {
            // The MAC proves that we made it: another replica may have, a moment ago.
            directory.read_again(&parts.store, &parts.clock).await?;
            found = directory.key(id, &parts.clock)?;
        }
        match found {
            AccountLookup::Live(known) => {
                // Also where the database does not know it yet: a restored backup may have lost it.
                if parts.revocations.is_session_revoked(id.into()) {
                    return Err(AuthError::credential("the key is revoked"));
                }
                directory.note_use(id, parts.clock.now());
                Ok((known, id.into()))
            }
            AccountLookup::Refused => Err(AuthError::credential(
                "the key is revoked or expired, or its account disabled",
            )),
            AccountLookup::Unknown => {
                Err(AuthError::credential("the key or its account was deleted"))
            }
        }
    }
}

/// The audiences of a token: those that are asked for, or the first one of the account that is configured.
fn audiences_for(
    account: &ServiceAccount,
    asked: &[String],
    configured: &[String],
) -> Result<Vec<String>, AuthError> {
    let mut allowed = account
        .audiences
        .iter()
        .filter(|audience| configured.contains(audience));
    if asked.is_empty() {
        let first = allowed.next().ok_or_else(|| {
            not_an_audience("the service account has no audience that the server issues tokens for")
        })?;
        return Ok(vec![first.clone()]);
    }
    let allowed: Vec<&String> = allowed.collect();
    if asked.iter().all(|audience| allowed.contains(&audience)) {
        let kept = allowed
            .into_iter()
            .filter(|allowed| asked.contains(allowed));
        return Ok(kept.cloned().collect());
    }
    Err(not_an_audience(
        "each must be an audience of the service account",
    ))
}

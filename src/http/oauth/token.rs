//! `POST /oauth2/token`: `client_credentials` (RFC 6749 section 4.4) and token exchange (RFC 8693).

use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::Serialize;

use super::{
    OAuth,
    client_auth::{ClientCredential, Proof},
    error::{OAuthError, json_response},
    form::Form,
};
use crate::{
    auth::{self, ClientCertificate, ExchangeCommand, IssuedServiceToken, ValidateQuery},
    clock::Timestamp,
    secret::Secret,
};

const CLIENT_CREDENTIALS: &str = "client_credentials";
pub(in crate::http) const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

const NO_CREDENTIAL: OAuthError =
    OAuthError::invalid_client("the request has no client credential");

/// A successful answer (RFC 6749 section 5.1). Absent members are left out: some clients refuse `null`.
#[derive(Serialize)]
struct TokenResponse<'a> {
    access_token: &'a str,
    /// Always `Bearer`, also after an exchange: clients write it in front of the token.
    token_type: &'static str,
    /// Always there, in whole seconds: without it clients keep a token for ever.
    expires_in: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_token_type: Option<&'static str>,
}

impl OAuth {
    /// Answers a request to the token endpoint.
    pub(super) async fn token(
        &self,
        headers: &HeaderMap,
        form: &Form,
    ) -> Result<Response, OAuthError> {
        match form.required("grant_type")? {
            CLIENT_CREDENTIALS => self.client_credentials(headers, form).await,
            TOKEN_EXCHANGE => self.exchange(headers, form).await,
            "refresh_token" => Err(OAuthError::unsupported_grant_type(
                "there are no refresh tokens here: ask again with client_credentials",
            )),
            _ => Err(OAuthError::unsupported_grant_type(
                "grant_type must be client_credentials or urn:ietf:params:oauth:grant-type:token-exchange",
            )),
        }
    }

    async fn client_credentials(
        &self,
        headers: &HeaderMap,
        form: &Form,
    ) -> Result<Response, OAuthError> {
        let credential = ClientCredential::read(headers, form)?.ok_or(NO_CREDENTIAL)?;
        let audiences = audiences(form);
        let issued = self.issue(&credential, &audiences).await?;
        self.note_audience(&issued.client_id, &audiences);
        let scope = form.get("scope");
        self.check_scope(&issued.access_token, scope)?;
        Ok(self.respond(&issued.access_token, issued.expires_at, scope, None))
    }

    /// Has a token issued to the client that the credential is of.
    pub(super) async fn issue(
        &self,
        credential: &ClientCredential,
        audiences: &[String],
    ) -> Result<IssuedServiceToken, OAuthError> {
        let issued = self.issue_to_any(credential, audiences).await;
        match credential.by_basic {
            true => issued.map_err(OAuthError::challenging_basic),
            false => issued,
        }
    }

    async fn issue_to_any(
        &self,
        credential: &ClientCredential,
        audiences: &[String],
    ) -> Result<IssuedServiceToken, OAuthError> {
        let proof = match &credential.proof {
            Proof::Secret(key) => auth::ClientCredential::ServiceKey(key),
            Proof::Assertion(assertion) => auth::ClientCredential::Assertion(assertion),
        };
        let issued = self.auth.issue_service_token(proof, audiences, None).await;
        let issued = issued.map_err(OAuthError::of_issue)?;
        match &credential.client_id {
            // The same answer as for a wrong secret: a key tells its owner, so the id must be the owner's.
            Some(id) if *id != issued.client_id => Err(OAuthError::not_accepted()),
            _ => Ok(issued),
        }
    }

    async fn exchange(&self, headers: &HeaderMap, form: &Form) -> Result<Response, OAuthError> {
        let credential = ClientCredential::read(headers, form)?;
        let subject_token = form.required("subject_token")?;
        check_token_type(form.get("subject_token_type"))?;
        if let Some(requested) = form.get("requested_token_type") {
            check_token_type(Some(requested))?;
        }
        let own = match &credential {
            Some(credential) => Some(self.issue(credential, &[]).await?),
            None => None,
        };
        let actor_token = match (form.get("actor_token"), &own) {
            (Some(given), _) => {
                check_token_type(form.get("actor_token_type"))?;
                given
            }
            (None, Some(own)) => own.access_token.expose(),
            (None, None) => return Err(NO_CREDENTIAL),
        };
        if let Some(own) = &own {
            self.check_actor(actor_token, own)?;
        }
        let scope = form.get("scope");
        let exchanged = self.auth.exchange_token(&ExchangeCommand {
            subject_token,
            actor_token,
            audiences: &audiences(form),
            roles: &words(scope),
            certificate_sha256: None,
        });
        let exchanged = exchanged.map_err(OAuthError::of_exchange)?;
        self.check_scope(&exchanged.access_token, scope)?;
        let kind = Some(ACCESS_TOKEN);
        Ok(self.respond(&exchanged.access_token, exchanged.expires_at, scope, kind))
    }

    /// A client that authenticates may act only with its own token.
    fn check_actor(&self, actor_token: &str, own: &IssuedServiceToken) -> Result<(), OAuthError> {
        let actor = self.auth.validate(any_use_of(actor_token));
        let is_own = actor.is_ok_and(|actor| actor.claims.client_id == own.client_id);
        match is_own {
            true => Ok(()),
            false => Err(OAuthError::token_not_accepted()),
        }
    }

    /// Scopes are the names of roles. Exactly those that are asked for are granted, in any order, or none: a client that
    /// gets fewer may take that for an error, and not use its token.
    fn check_scope(&self, token: &Secret<String>, scope: Option<&str>) -> Result<(), OAuthError> {
        if scope.is_none() {
            return Ok(());
        }
        let validated = self.auth.validate(any_use_of(token.expose()));
        let validated = validated.map_err(OAuthError::of_all)?;
        let mut asked = words(scope);
        let mut granted = validated.claims.roles.clone();
        asked.sort_unstable();
        asked.dedup();
        granted.sort_unstable();
        match asked == granted {
            true => Ok(()),
            false => Err(OAuthError::invalid_scope(
                "scope must name exactly the roles that the token would have, or be left out",
            )),
        }
    }

    fn respond(
        &self,
        token: &Secret<String>,
        expires_at: Timestamp,
        scope: Option<&str>,
        issued_token_type: Option<&'static str>,
    ) -> Response {
        let response = TokenResponse {
            access_token: token.expose(),
            token_type: "Bearer",
            expires_in: expires_at.seconds() - self.clock.now().seconds(),
            scope,
            issued_token_type,
        };
        json_response(StatusCode::OK, &response)
    }
}

/// The audiences that are asked for: `audience` (RFC 8693 section 2.1) and `resource` (RFC 8707 section 2).
fn audiences(form: &Form) -> Vec<String> {
    let mut audiences: Vec<String> = Vec::new();
    for name in form.all("audience").chain(form.all("resource")) {
        if !audiences.iter().any(|known| known == name) {
            audiences.push(name.to_owned());
        }
    }
    audiences
}

fn words(scope: Option<&str>) -> Vec<String> {
    let words = scope.unwrap_or_default().split_ascii_whitespace();
    words.map(str::to_owned).collect()
}

fn check_token_type(kind: Option<&str>) -> Result<(), OAuthError> {
    match kind {
        Some(ACCESS_TOKEN | JWT) => Ok(()),
        _ => Err(OAuthError::invalid_request(
            "the type of each token must be urn:ietf:params:oauth:token-type:access_token",
        )),
    }
}

/// A query for whatever the token is good for. The HTTP port asks for no client certificates, so a token that is bound to
/// one is good for nothing here.
pub(super) const fn any_use_of(access_token: &str) -> ValidateQuery<'_> {
    ValidateQuery::any_use_of(access_token, ClientCertificate::Absent)
}

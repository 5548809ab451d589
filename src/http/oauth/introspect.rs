//! `POST /oauth2/introspect` (RFC 7662), for resource servers that cannot verify a token by themselves.

use std::sync::LazyLock;

use axum::response::Response;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value, json};

use super::{
    OAuth,
    client_auth::ClientCredential,
    error::{OAuthError, json_response},
    form::Form,
    token::any_use_of,
};
use crate::{
    auth::{AuthError, ClientCertificate, ValidateQuery},
    tokens::{AccessClaims, Actor},
};

/// What the caller must be.
static VERIFIER: LazyLock<[String; 1]> = LazyLock::new(|| ["verifier".to_owned()]);

impl OAuth {
    /// Answers a request to the introspection endpoint.
    pub(super) async fn introspect(
        &self,
        headers: &HeaderMap,
        form: &Form,
    ) -> Result<Response, OAuthError> {
        self.check_caller(headers, form).await?;
        let query = ValidateQuery {
            // The answer names the certificate (RFC 8705 section 3.2).
            certificate: ClientCertificate::ComparedByCaller,
            ..any_use_of(form.required("token")?)
        };
        let answer = match self.auth.validate(query) {
            Ok(validated) => described(&validated.claims, self.auth.issuer()),
            // One answer, whatever is wrong with it (RFC 7662 section 2.2).
            Err(
                AuthError::TokenMissing
                | AuthError::TokenInvalid
                | AuthError::TokenExpired
                | AuthError::TokenRevoked
                | AuthError::StepUpRequired { .. },
            ) => json!({"active": false}),
            Err(other) => return Err(OAuthError::of_all(other)),
        };
        Ok(json_response(StatusCode::OK, &answer))
    }

    /// The caller must hold the role `verifier`: by its access token, or by the credential of its service account.
    async fn check_caller(&self, headers: &HeaderMap, form: &Form) -> Result<(), OAuthError> {
        if let Some(token) = bearer(headers) {
            return self.check_role(token);
        }
        let none = OAuthError::invalid_client("the request has no credential");
        let credential = ClientCredential::read(headers, form)?.ok_or(none)?;
        let own = self.issue(&credential, &[]).await?;
        self.check_role(own.access_token.expose())
    }

    fn check_role(&self, access_token: &str) -> Result<(), OAuthError> {
        let query = ValidateQuery {
            required_roles: &*VERIFIER,
            ..any_use_of(access_token)
        };
        match self.auth.validate(query) {
            Ok(_) => Ok(()),
            Err(AuthError::InsufficientRole) => Err(OAuthError::insufficient_scope()),
            Err(
                AuthError::TokenMissing
                | AuthError::TokenInvalid
                | AuthError::TokenExpired
                | AuthError::TokenRevoked
                | AuthError::StepUpRequired { .. },
            ) => Err(OAuthError::invalid_token()),
            Err(other) => Err(OAuthError::of_all(other)),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// What RFC 7662 section 2.2 names, and our own claims. Absent ones are left out.
fn described(claims: &AccessClaims, issuer: &str) -> Value {
    let mut answer = Map::new();
    let mut say = |name: &str, value: Value| answer.insert(name.to_owned(), value);
    say("active", json!(true));
    say("token_type", json!("Bearer"));
    say("iss", json!(issuer));
    say("sub", json!(claims.user_id.to_string()));
    say("aud", json!(claims.audiences));
    say("exp", json!(claims.expires_at.seconds()));
    say("iat", json!(claims.issued_at.seconds()));
    say("jti", json!(claims.token_id.to_string()));
    say("sid", json!(claims.session_id.to_string()));
    say("client_id", json!(claims.client_id));
    say("roles", json!(claims.roles));
    if !claims.roles.is_empty() {
        say("scope", json!(claims.roles.join(" ")));
    }
    if let Some(at) = claims.authenticated_at {
        say("auth_time", json!(at.seconds()));
    }
    if !claims.acr.is_empty() {
        say("acr", json!(claims.acr));
    }
    if !claims.methods.is_empty() {
        say("amr", json!(claims.methods));
    }
    if let Some(sha256) = claims.certificate_sha256 {
        say("cnf", json!({"x5t#S256": URL_SAFE_NO_PAD.encode(sha256)}));
    }
    if let Some(act) = actors(&claims.actors) {
        say("act", act);
    }
    Value::Object(answer)
}

/// Who acts, the last one outermost (RFC 8693 section 4.1).
fn actors(actors: &[Actor]) -> Option<Value> {
    actors.iter().rev().fold(None, |inner, actor| {
        let mut act = json!({"sub": actor.subject.to_string()});
        if let Some(inner) = inner {
            act["act"] = inner;
        }
        Some(act)
    })
}

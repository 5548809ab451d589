//! The OAuth 2.0 endpoints, for unmodified client libraries: tokens for services, and introspection.
//!
//! `docs/oauth.md` lists the tested clients and their settings.

mod client_auth;
mod error;
mod failure;
mod form;
mod introspect;
mod limit;
mod token;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use ipnet::IpNet;
use tokio::time::timeout;

use error::OAuthError;
use form::Form;
use limit::AddressLimit;

use super::ClientAddress;
use crate::{auth::Auth, clock::Clock, config::Rate, telemetry::LogLimit};

pub(super) use token::TOKEN_EXCHANGE;

pub(super) const TOKEN_PATH: &str = "/oauth2/token";
pub(super) const INTROSPECTION_PATH: &str = "/oauth2/introspect";

/// How long a body may take.
const BODY_TIME: Duration = Duration::from_secs(10);
/// Most clients for which it is remembered that they name an audience.
const MAX_NAMING: usize = 10_000;

/// What the endpoints need.
pub(super) struct OAuth {
    auth: Auth,
    clock: Clock,
    limit: AddressLimit,
    trusted_proxies: Vec<IpNet>,
    /// The clients that have named an audience.
    naming: Mutex<HashMap<String, LogLimit>>,
}

impl OAuth {
    pub(super) fn new(
        auth: Auth,
        clock: Clock,
        rate: Option<Rate>,
        trusted_proxies: Vec<IpNet>,
    ) -> Self {
        Self {
            auth,
            clock,
            limit: AddressLimit::new(rate),
            trusted_proxies,
            naming: Mutex::default(),
        }
    }

    /// The routes, at the root and below `path`, where the issuer has one. Other methods than POST are answered 405, other
    /// paths 404: never with a redirect, after which some clients send their secret to whatever host it names.
    pub(super) fn into_router(self, path: Option<&str>) -> Router {
        let oauth = Arc::new(self);
        let mut router = Router::new();
        for base in std::iter::once("").chain(path) {
            router = router
                .route(&format!("{base}{TOKEN_PATH}"), post(token))
                .route(&format!("{base}{INTROSPECTION_PATH}"), post(introspect));
        }
        router.with_state(oauth)
    }

    /// Counts the call, and reads its form.
    async fn admit(&self, request: &mut Request<Body>) -> Result<Form, OAuthError> {
        let peer = request.extensions().get::<ClientAddress>();
        if let Some(peer) = peer.copied() {
            let client = ClientAddress::behind(peer, &self.trusted_proxies, request.headers());
            self.limit.admit(client.rate_key())?;
        }
        let body = read(std::mem::take(request.body_mut())).await?;
        Form::read(request.headers(), &body)
    }

    /// Says in the log that a client which used to name an audience named none: some libraries drop it when they renew a
    /// token. It gets a token for the first audience of its account, never for all.
    fn note_audience(&self, client_id: &str, audiences: &[String]) {
        let Ok(mut naming) = self.naming.lock() else {
            return;
        };
        if audiences.is_empty() {
            let permitted = naming.get_mut(client_id).is_some_and(LogLimit::permits);
            if permitted {
                tracing::warn!(
                    client_id,
                    "a client that requested an audience before requested none: its token is for the first audience of its account"
                );
            }
        } else if naming.len() < MAX_NAMING && !naming.contains_key(client_id) {
            naming.insert(client_id.to_owned(), LogLimit::default());
        }
    }
}

async fn read(body: Body) -> Result<Bytes, OAuthError> {
    let collected = timeout(BODY_TIME, Limited::new(body, form::MAX_LENGTH).collect());
    match collected.await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(OAuthError::too_long()),
        Ok(Err(_)) => Err(OAuthError::invalid_request("the body breaks off")),
        Err(_) => Err(OAuthError::too_slow()),
    }
}

async fn token(State(oauth): State<Arc<OAuth>>, mut request: Request<Body>) -> Response {
    let answered = match oauth.admit(&mut request).await {
        Ok(form) => oauth.token(request.headers(), &form).await,
        Err(error) => Err(error),
    };
    answered.unwrap_or_else(IntoResponse::into_response)
}

async fn introspect(State(oauth): State<Arc<OAuth>>, mut request: Request<Body>) -> Response {
    let answered = match oauth.admit(&mut request).await {
        Ok(form) => oauth.introspect(request.headers(), &form).await,
        Err(error) => Err(error),
    };
    answered.unwrap_or_else(IntoResponse::into_response)
}

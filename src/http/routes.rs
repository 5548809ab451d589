//! The routes of the HTTP port. Everything else is answered with a status and no body: nothing of a request is echoed.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, Method, StatusCode, header};
use ipnet::IpNet;
use prometheus_client::{encoding::text, registry::Registry};
use tokio::sync::watch;
use tower_http::cors::{Any, CorsLayer};

use super::{
    document::Document,
    metadata::{self, Metadata},
    metrics,
    oauth::OAuth,
    readiness::{self, Readiness},
};
use crate::{
    auth::Auth,
    clock::Clock,
    config::Rate,
    telemetry::CallFamilies,
    tls::{Refusals, TlsState},
    tokens::JwksDocument,
    workloads::issuers::TrustedIssuers,
};

/// What the routes serve.
pub struct Site {
    /// The use cases, which hold the public keys.
    pub auth: Auth,
    /// The metrics of gRPC calls.
    pub calls: CallFamilies,
    /// What the server can do at the moment.
    pub readiness: watch::Receiver<Readiness>,
    /// The certificates of both ports, unless they serve plain text.
    pub tls: Option<TlsState>,
    /// The refused TLS handshakes of both ports.
    pub refusals: Refusals,
    /// Whose assertions prove a service.
    pub issuers: TrustedIssuers,
    /// The time.
    pub clock: Clock,
    /// How often one address may call the OAuth endpoints; `None` is no limit.
    pub token_rate: Option<Rate>,
    /// The proxies whose `x-forwarded-for` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The address of the gRPC port.
    pub grpc_port: SocketAddr,
    /// The address of the HTTP port.
    pub http_port: SocketAddr,
}

struct Content {
    auth: Auth,
    metadata: Document,
    metrics: Registry,
    readiness: watch::Receiver<Readiness>,
}

impl Site {
    /// The routes. HEAD is answered like GET; methods that a route does not have, with 405.
    pub(super) fn into_router(self) -> Router {
        let issuer = self.auth.issuer().to_owned();
        let metadata = Metadata::new(&issuer, self.grpc_port, self.http_port);
        let json =
            serde_json::to_string(&metadata).expect("strings and lists can always be serialised");
        let oauth = OAuth::new(
            self.auth.clone(),
            self.clock,
            self.token_rate,
            self.trusted_proxies,
        );
        let content = Arc::new(Content {
            metadata: Document::new(json),
            metrics: metrics::registry(
                self.auth.clone(),
                &self.calls,
                self.tls,
                self.refusals,
                self.issuers,
            ),
            readiness: self.readiness,
            auth: self.auth,
        });
        let (jwks_paths, metadata_paths) = metadata::paths(&issuer);
        let mut router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz));
        for path in jwks_paths {
            router = router.route(&path, get(jwks).layer(public()));
        }
        for path in metadata_paths {
            let get = get(authorization_server_metadata);
            router = router.route(&path, get.layer(public()));
        }
        let issuer_path = metadata::issuer_path(&issuer);
        router
            .with_state(content)
            .merge(oauth.into_router(issuer_path.as_deref()))
    }
}

/// Lets every page read the document: it is public, and the same for everybody.
fn public() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::HEAD])
        .allow_headers([header::IF_NONE_MATCH])
        .expose_headers([header::ETAG])
        .max_age(Duration::from_secs(600))
        // The answer is the same whoever asks, so caches keep one copy.
        .vary(Vec::new())
}

async fn jwks(State(content): State<Arc<Content>>, request: HeaderMap) -> Response {
    let JwksDocument { json, etag } = content.auth.jwks();
    Document { json, etag }.answer(&request, content.auth.jwks_max_age())
}

async fn authorization_server_metadata(
    State(content): State<Arc<Content>>,
    request: HeaderMap,
) -> Response {
    // It changes only with the configuration, but it should not be cached longer than the keys it points to.
    let max_age = content.auth.jwks_max_age();
    content.metadata.clone().answer(&request, max_age)
}

/// Whether this process can validate access tokens. A database outage does not change it.
async fn healthz(State(content): State<Arc<Content>>) -> Response {
    readiness::response(content.readiness.borrow().validation)
}

/// Whether every call can succeed, those included that need the database.
async fn readyz(State(content): State<Arc<Content>>) -> Response {
    readiness::response(content.readiness.borrow().is_complete())
}

async fn metrics(State(content): State<Arc<Content>>) -> Response {
    let mut text = String::new();
    match text::encode(&mut text, &content.metrics) {
        Ok(()) => {
            let kind = (header::CONTENT_TYPE, metrics::CONTENT_TYPE);
            ([kind, (header::CACHE_CONTROL, "no-store")], text).into_response()
        }
        // Writing to a string cannot fail, so this would be an error of a collector.
        Err(std::fmt::Error) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

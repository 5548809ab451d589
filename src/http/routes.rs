//! What there is to get. All else is answered with a bare status: nothing of a request is repeated.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, StatusCode, header};
use prometheus_client::{encoding::text, registry::Registry};

use super::{
    document::Document,
    metadata::{self, Metadata},
    metrics,
};
use crate::{auth::Auth, telemetry::CallCollector, tokens::JwksDocument};

/// What the documents are made of.
pub struct Site {
    /// The use cases, which know the keys.
    pub auth: Auth,
    /// What is counted of the calls.
    pub calls: CallCollector,
    /// Where gRPC is served.
    pub grpc_port: SocketAddr,
    /// Where these documents are.
    pub http_port: SocketAddr,
}

struct Content {
    auth: Auth,
    metadata: Document,
    metrics: Registry,
}

impl Site {
    /// The routes; they answer HEAD like GET, and any other method with 405.
    pub(super) fn into_router(self) -> Router {
        let issuer = self.auth.issuer().to_owned();
        let metadata = Metadata::new(&issuer, self.grpc_port, self.http_port);
        let json = serde_json::to_string(&metadata).expect("text and lists are always JSON");
        let content = Arc::new(Content {
            metadata: Document::named_after_its_content(json),
            metrics: metrics::registry(self.auth.clone(), self.calls),
            auth: self.auth,
        });
        let (jwks_paths, metadata_paths) = metadata::paths(&issuer);
        let mut router = Router::new().route("/metrics", get(tell_metrics));
        for path in jwks_paths {
            router = router.route(&path, get(tell_jwks));
        }
        for path in metadata_paths {
            router = router.route(&path, get(tell_metadata));
        }
        router.with_state(content)
    }
}

async fn tell_jwks(State(content): State<Arc<Content>>, request: HeaderMap) -> Response {
    let JwksDocument { json, etag } = content.auth.jwks();
    Document { json, etag }.answer(&request, content.auth.jwks_max_age())
}

async fn tell_metadata(State(content): State<Arc<Content>>, request: HeaderMap) -> Response {
    // It changes with the configuration alone; what it leads to is not kept longer either.
    let max_age = content.auth.jwks_max_age();
    content.metadata.clone().answer(&request, max_age)
}

async fn tell_metrics(State(content): State<Arc<Content>>) -> Response {
    let mut text = String::new();
    match text::encode(&mut text, &content.metrics) {
        Ok(()) => {
            let kind = (header::CONTENT_TYPE, metrics::CONTENT_TYPE);
            ([kind, (header::CACHE_CONTROL, "no-store")], text).into_response()
        }
        // Writing to a string cannot fail; a collector would have to.
        Err(std::fmt::Error) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

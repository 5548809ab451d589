//! What there is to get. All else is answered with a bare status: nothing of a request is repeated.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use prometheus_client::{encoding::text, registry::Registry};

use super::{
    document::Document,
    metadata::{self, Metadata},
    metrics,
};
use crate::{auth::Auth, telemetry::CallCollector};

/// What the documents are made of.
pub struct Site {
    /// The use cases, which know the keys.
    pub auth: Auth,
    /// What is counted of the calls.
    pub calls: CallCollector,
    /// How long verifiers may keep the JWKS.
    pub jwks_max_age: Duration,
    /// Where gRPC is served.
    pub grpc_port: SocketAddr,
    /// Where these documents are.
    pub http_port: SocketAddr,
}

struct Content {
    auth: Auth,
    cache_control: HeaderValue,
    metadata: Document,
    metrics: Registry,
}

impl Site {
    /// The routes; they answer HEAD like GET, and any other method with 405.
    pub(super) fn into_router(self) -> Router {
        let issuer = self.auth.issuer().to_owned();
        let cache_control = cache_control(self.jwks_max_age);
        let metadata = Metadata::new(&issuer, self.grpc_port, self.http_port);
        let json = serde_json::to_string(&metadata).expect("text and lists are always JSON");
        let metadata = Document {
            etag: etag(&json),
            json,
            cache_control: cache_control.clone(),
        };
        let content = Arc::new(Content {
            metrics: metrics::registry(self.auth.clone(), self.calls),
            auth: self.auth,
            cache_control,
            metadata,
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
    let json = content.auth.jwks();
    let document = Document {
        etag: etag(&json),
        json,
        cache_control: content.cache_control.clone(),
    };
    document.answer(&request)
}

async fn tell_metadata(State(content): State<Arc<Content>>, request: HeaderMap) -> Response {
    content.metadata.clone().answer(&request)
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

fn cache_control(max_age: Duration) -> HeaderValue {
    HeaderValue::try_from(format!("public, max-age={}", max_age.as_secs()))
        .expect("letters and digits are a header")
}

/// Named after its content: replicas that publish the same say the same.
fn etag(json: &str) -> HeaderValue {
    let hash = digest(&SHA256, json.as_bytes());
    let name = format!("\"{}\"", URL_SAFE_NO_PAD.encode(&hash.as_ref()[..16]));
    HeaderValue::try_from(name).expect("base64url is a header")
}

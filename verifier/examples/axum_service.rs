//! An axum service that lets only good tokens through: `cargo run --example axum_service -- http://127.0.0.1:50051 SERVICE_KEY`.
//! The service key, `csk_…`, is one of a service account with role `verifier`.

use std::{error::Error, sync::Arc};

use axum::{Extension, Router, routing::get};
use countersign_verifier::{Claims, Credential, Demand, RequireToken, Verifier, VerifierConfig};
use tokio::net::TcpListener;

async fn orders(Extension(claims): Extension<Arc<Claims>>) -> String {
    format!("the orders of {}", claims.subject)
}

/// Serves until the process ends.
pub async fn serve(verifier: Verifier, listener: TcpListener) -> std::io::Result<()> {
    let layer = RequireToken::http(verifier).demand(Demand::new().role("reader"));
    let app = Router::new()
        .route("/orders", get(orders))
        .layer(layer)
        // Added after the layer: open to everyone.
        .route("/healthz", get(|| async { "ok" }));
    axum::serve(listener, app).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [endpoint, key] = &arguments[..] else {
        return Err("usage: axum_service ENDPOINT SERVICE_KEY".into());
    };
    let credential = Credential::service_key(endpoint, key)?;
    let config = VerifierConfig::new("http://localhost:50051", "countersign", credential);
    let verifier = Verifier::connect(endpoint, config).await?;
    Ok(serve(verifier, TcpListener::bind("127.0.0.1:3000").await?).await?)
}

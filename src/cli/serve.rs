//! `countersign serve`: builds the server, prints the addresses it bound, serves until a signal.

use std::net::SocketAddr;

use tokio::signal::unix::{SignalKind, signal};

use super::{Outcome, block_on, say};
use crate::{
    clock::Clock,
    config::{Config, Profile},
    passwords::HashingBackend,
    server::Server,
    telemetry,
};

pub(super) fn run(config: Config) -> Outcome {
    block_on(async {
        let telemetry = telemetry::init(&config.telemetry).map_err(|error| error.to_string())?;
        telemetry::hide_panic_messages();
        let served = serve(config).await;
        // Also after a failure: its spans must be exported.
        telemetry.shutdown().await;
        served
    })
}

async fn serve(config: Config) -> Result<(), String> {
    // Registered before anything slow, so that a signal during the start is not lost.
    let stop = stop_signal().map_err(|error| error.to_string())?;
    let profile = config.profile;
    let reflection = config.reflection;
    let database = config.database.url.describe();
    let argon2 = HashingBackend::detect();
    let server = Server::build(config, Clock::System)
        .await
        .map_err(|error| error.to_string())?;
    let address = server.grpc_addr();
    let http = server
        .http_addr()
        .map_or_else(|| "off".to_owned(), |address| address.to_string());
    say(format_args!(
        "countersign listening grpc={address} http={http} database={database} profile={profile} argon2={argon2}"
    ));
    if profile == Profile::Development && reflection {
        say(format_args!("{}", first_call(address)));
    }
    server.run(stop).await.map_err(|error| error.to_string())
}

fn first_call(address: SocketAddr) -> String {
    let body = r#"{"email":"ada@example.org","password":"a mill that weaves algebra"}"#;
    let method = "countersign.auth.v1.AuthService/Register";
    format!(
        "\nTry it:\n  \
         grpcurl -plaintext -d '{body}' {address} {method}\n  \
         buf curl --http2-prior-knowledge --protocol grpc -d '{body}' http://{address}/{method}\n"
    )
}

/// Completes on SIGTERM, which Kubernetes sends, and on SIGINT, which Ctrl-C sends.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
            _ = interrupt.recv() => tracing::info!("SIGINT: draining"),
        }
    })
}

//! `countersign serve`: builds the server, prints the addresses it bound, and serves until a signal.

use std::{net::SocketAddr, pin::pin};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Outcome, block_on, say};
use crate::{
    clock::Clock,
    config::{Config, Profile, Tls},
    passwords::HashingBackend,
    server::Server,
    telemetry,
};

pub(super) fn run(config: Config) -> Outcome {
    block_on(async {
        let telemetry = telemetry::init(&config.telemetry).map_err(|error| error.to_string())?;
        telemetry::hide_panic_messages();
        let served = Box::pin(serve(config)).await;
        // Also after a failure: its spans must be exported.
        telemetry.shutdown().await;
        served
    })
}

async fn serve(config: Config) -> Result<(), String> {
    // Registered before anything slow, so that a signal during the start is not lost.
    let mut signals = Signals::register().map_err(|error| error.to_string())?;
    let profile = config.profile;
    let tls = config.tls;
    let reflection = config.reflection;
    let database = config.database.url.describe();
    let argon2 = HashingBackend::detect();
    let server = tokio::select! {
        built = Server::build(config, Clock::System) => built.map_err(|error| error.to_string())?,
        name = signals.next() => return Err(format!("{name} during the start")),
    };
    let address = server.grpc_addr();
    let http = server
        .http_addr()
        .map_or_else(|| "off".to_owned(), |address| address.to_string());
    say(format_args!(
        "countersign listening grpc={address} http={http} database={database} profile={profile} argon2={argon2}"
    ));
    if profile == Profile::Development && reflection && tls == Tls::Off {
        say(format_args!("{}", first_call(address)));
    }
    run_until_signal(server, signals).await
}

/// The first signal shuts the server down, the second ends it at once.
async fn run_until_signal(server: Server, mut signals: Signals) -> Result<(), String> {
    let stop = CancellationToken::new();
    let mut running = pin!(server.run(stop.clone().cancelled_owned()));
    loop {
        tokio::select! {
            ended = &mut running => return ended.map_err(|error| error.to_string()),
            name = signals.next() => {
                if stop.is_cancelled() {
                    return Err(format!("second {name}: running calls were cut off"));
                }
                tracing::info!("{name}: shutting down");
                stop.cancel();
            }
        }
    }
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

/// `SIGXFSZ` (setrlimit(2), `RLIMIT_FSIZE`).
const FILE_TOO_LARGE: i32 = rustix::process::Signal::XFSZ.as_raw();

/// SIGTERM, which Kubernetes and systemd send, SIGINT, which Ctrl-C sends, and SIGHUP, which a terminal sends that is closed:
/// each ends the server as it should. Under `nohup` SIGHUP stays ignored. Files need no signal to be read again.
struct Signals {
    /// Would end the process when a file reaches the limit on its size. With a handler, writing fails instead, as on a full
    /// disk.
    _file_too_large: Signal,
    terminate: Signal,
    interrupt: Signal,
    hang_up: Option<Signal>,
}

impl Signals {
    fn register() -> std::io::Result<Self> {
        Ok(Self {
            _file_too_large: signal(SignalKind::from_raw(FILE_TOO_LARGE))?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: match ignores_sighup() {
                true => None,
                false => Some(signal(SignalKind::hangup())?),
            },
        })
    }

    /// The name of the next signal.
    async fn next(&mut self) -> &'static str {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = hang_up => "SIGHUP",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Whether the process was started with SIGHUP ignored. A handler of ours would undo that.
fn ignores_sighup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // The mask has a bit for each signal from 1 on.
    ignored.is_some_and(|mask| mask & 1 == 1)
}

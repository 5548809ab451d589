//! `cargo bench --bench load`: the running service against the plainest thing that could stand in its
//! place, as separate processes, driven in turn by one client.
//!
//! Every comparison is made in many short rounds, ours and the other one alternating, and reported as
//! medians over rounds; the ratio is the median of the rounds' ratios, so that what a busy machine does
//! to both does not count. All traffic stays on the loopback interface, and every process that is
//! started ends with this one.

mod chart;
mod driver;
mod echo;
mod error;
mod fixture;
mod loops;
mod measured;
mod postgres;
mod process;
mod report;
mod rounds;
mod scenarios;
mod seed;
mod steady;
mod tls_server;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, ValueEnum as _};

use error::Result;
use report::Report;
use scenarios::{Bench, Scenario};
use tokio::signal::unix::{SignalKind, signal};

/// The allocator of the service, so that the echo server has the same.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the service end to end.
#[derive(Parser)]
struct Options {
    /// Under two minutes: shorter rounds, smaller numbers
    #[arg(long)]
    quick: bool,
    /// Only these scenarios, comma-separated; then nothing is written
    #[arg(long, value_delimiter = ',')]
    only: Vec<Scenario>,
    /// Where JSON and SVG go
    #[arg(long, default_value = "artifacts/benchmarks")]
    out: PathBuf,
    /// The folder of PostgreSQL's programs; without it, what needs PostgreSQL is left out
    #[arg(long)]
    postgres_bin: Option<PathBuf>,
    /// Another build of the service, for `--only compare`
    #[arg(long)]
    other: Option<PathBuf>,
    /// The build to compare with it, instead of the one built with this program
    #[arg(long)]
    this: Option<PathBuf>,
    /// `cargo bench` says so
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

/// The other processes of a measurement are this same program.
#[derive(clap::Subcommand)]
enum Role {
    /// Serves the echo that validation is compared with
    #[command(hide = true)]
    EchoServer(echo::Settings),
    /// Does TLS handshakes
    #[command(hide = true)]
    TlsServer(tls_server::Settings),
    /// Hashes on every core, at the lowest priority, until terminated
    #[command(hide = true)]
    Hashing,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let done = runtime.block_on(async {
        match options.role {
            Some(Role::EchoServer(settings)) => echo::serve(settings).await,
            Some(Role::TlsServer(settings)) => tls_server::serve(settings).await,
            Some(Role::Hashing) => loops::argon2_for_ever(),
            // Ended from outside, it drops what it was doing, and with it every process it started.
            None => tokio::select! {
                done = measure(&options) => done,
                () = told_to_stop() => Err("stopped".into()),
            },
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(options: &Options) -> Result<()> {
    let mut report = Report::new(options.quick);
    let chosen = match options.only.as_slice() {
        [] => Scenario::value_variants(),
        some => some,
    };
    let mut failed = false;
    for scenario in chosen {
        eprintln!("{}", scenario.title());
        let mut bench = Bench {
            quick: options.quick,
            postgres_bin: options
                .postgres_bin
                .as_deref()
                .filter(|bin| has_server(bin)),
            other: options.other.as_deref(),
            this: options.this.as_deref(),
            report: &mut report,
        };
        if let Err(error) = scenario.run(&mut bench).await {
            // The other numbers are worth having all the same.
            eprintln!("  failed: {error}");
            failed = true;
        }
    }
    report.print();
    if failed {
        return Err("a scenario failed, so nothing was written".into());
    }
    if options.only.is_empty() {
        report.write(&options.out)?;
    }
    Ok(())
}

/// Completes on SIGINT and SIGTERM.
async fn told_to_stop() {
    let mut terminate = signal(SignalKind::terminate()).expect("a signal handler");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

fn has_server(bin: &Path) -> bool {
    ["initdb", "postgres", "pgbench"]
        .iter()
        .all(|program| bin.join(program).exists())
}

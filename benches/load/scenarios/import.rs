//! Importing users on PostgreSQL, against COPY of the same rows, with validation beside it.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::Path,
    time::Duration,
};

use countersign::clock::monotonic_now;
use tokio::{
    process::{Child, Command},
    runtime::Handle,
    time::sleep,
};

use super::Bench;
use crate::{
    Result,
    driver::{float, in_turn},
    fixture::{CHEAP_HASHES, Fixture},
    postgres::Cluster,
    report::Bound,
    rounds::{Medians, median},
    steady::SteadyValidation,
};

const GROUP: &str = "import";
const DATABASE: &str = "import";
/// What the issue of a million users allows.
const LEAST_RATIO: f64 = 0.3;

pub async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let Some(bin) = bench.postgres_bin else {
        eprintln!("  left out: it needs --postgres-bin");
        return Ok(());
    };
    let users: u64 = bench.choose(50_000, 1_000_000);
    let cluster = Cluster::start(bin).await?;
    let fixture = Fixture::on(&cluster.create(DATABASE).await?, CHEAP_HASHES)?;
    let process = fixture.start().await?;
    let mint = fixture.mint().await?;
    let tokens = in_turn(mint.requests(256)?);
    let validation = SteadyValidation::connect(Handle::current(), process.address, &tokens).await?;
    let second = Duration::from_secs(1);
    let alone = p99(&validation, second).await?;

    let file = fixture.folder().join("users.jsonl");
    write_records(&file, users)?;
    let began = monotonic_now();
    let mut import = fixture
        .command(&["users", "import"])
        .arg(&file)
        .stdout(std::process::Stdio::null())
        .spawn()?;
    let (mut beside, mut memory) = (Vec::new(), 0);
    while import.try_wait()?.is_none() {
        beside.push(p99(&validation, second / 2).await?);
        memory = resident(&import).unwrap_or(memory).max(memory);
    }
    let took = began.elapsed().as_secs_f64();
    if !import.wait().await?.success() {
        return Err("the import failed".into());
    }
    process.stop().await?;
    let ours = float(users) / took;
    let copied = float(users) / copy_again(&cluster).await?.as_secs_f64();

    let medians = Medians {
        ours,
        other: copied,
        ratio: ours / copied,
    };
    let report = &mut *bench.report;
    let bound = Some(Bound::AtLeast(LEAST_RATIO));
    report.compare(
        GROUP,
        "users per second",
        "COPY of the same rows",
        medians,
        bound,
    );
    report.number(GROUP, "seconds for all", took, None);
    report.number(
        GROUP,
        "memory of the command, MB",
        float(memory) / 1e3,
        None,
    );
    let beside = median(beside);
    let medians = Medians {
        ours: beside,
        other: alone,
        ratio: beside / alone,
    };
    let bound = Some(Bound::AtMost(2.0));
    report.compare(GROUP, "validate p99, us", "without it", medians, bound);
    Ok(())
}

async fn p99(validation: &SteadyValidation, duration: Duration) -> Result<f64> {
    let figures = validation.micros(duration).await?;
    Ok(figures.last().copied().unwrap_or_default())
}

/// Users with bcrypt hashes, which need not be right.
fn write_records(file: &Path, users: u64) -> Result<()> {
    let mut writer = BufWriter::new(File::create(file)?);
    let mut line = String::new();
    for n in 0..users {
        line.clear();
        writeln!(
            line,
            r#"{{"email":"user{n}@example.org","display_name":"User {n}","email_verified":true,"password_hash":"$2b$10${:.>53}"}}"#,
            ""
        )?;
        writer.write_all(line.as_bytes())?;
    }
    Ok(writer.flush()?)
}

/// How long COPY takes for the rows that are there, into the same table with the same indexes.
async fn copy_again(cluster: &Cluster) -> Result<Duration> {
    let client = cluster.connect(DATABASE).await?;
    let file = cluster.folder().join("users.copy");
    let file = file.display();
    for statement in [
        &format!("COPY users TO '{file}'"),
        "TRUNCATE users CASCADE",
        "CHECKPOINT",
    ] {
        client.batch_execute(statement).await?;
    }
    // The server that was stopped may still be closing its connections.
    sleep(Duration::from_millis(200)).await;
    let began = monotonic_now();
    client
        .batch_execute(&format!("COPY users FROM '{file}'"))
        .await?;
    Ok(began.elapsed())
}

/// The most memory that the process has had, in kB.
fn resident(process: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id()?)).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

impl Fixture {
    /// A command on the same configuration.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command
            .args(arguments)
            .envs(self.variables())
            .current_dir(self.folder())
            .kill_on_drop(true);
        command
    }
}

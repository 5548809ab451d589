//! Importing users on PostgreSQL, against COPY of the same rows into the same table, both with validation beside them.

use std::{
    cell::RefCell,
    fmt::Write as _,
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    process::Stdio,
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
    driver::{float, in_turn},
    error::Result,
    fixture::{CHEAP_HASHES, Fixture},
    measured::Bound,
    postgres::Cluster,
    rounds::{Figures, Rounds, median},
    steady::{Foremost, SteadyValidation},
};

const GROUP: &str = "import";
const DATABASE: &str = "import";
/// What the issue of a million users allows.
const LEAST_RATIO: f64 = 0.3;
/// How often the memory of the command is looked at.
const LOOK: Duration = Duration::from_millis(50);

pub async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let Some(bin) = bench.postgres_bin else {
        eprintln!("  left out: it needs --postgres-bin");
        return Ok(());
    };
    let users: u64 = bench.choose(50_000, 1_000_000);
    let quiet = Duration::from_secs(bench.choose(1, 10));
    let cluster = Cluster::start(bin).await?;
    let fixture = Fixture::on(&cluster.create(DATABASE).await?, CHEAP_HASHES)?;
    let process = fixture.start().await?;
    let mint = fixture.mint().await?;
    let tokens = in_turn(mint.requests(256)?);
    let foremost = Foremost::start().await;
    let (thread, ordinary) = match &foremost {
        Ok(foremost) => (foremost.handle(), ""),
        Err(error) => {
            eprintln!("  the caller waits for cores like others: {error}");
            (Handle::current(), ", its caller waiting too")
        }
    };
    let place = Place {
        validation: SteadyValidation::connect(thread, process.address, &tokens).await?,
        rows: cluster.folder().join("users.copy"),
        cluster,
        fixture,
    };
    let all = Records::write(place.fixture.folder(), users)?;
    let tenth = Records::write(place.fixture.folder(), users / 10)?;
    // What the first calls pay for is no part of any figure.
    place.validation.micros(Duration::from_secs(1)).await?;

    let taken = RefCell::new(Vec::new());
    let measured = Rounds::measure(
        3,
        async || {
            let (seconds, memory, p99) = place.import(&all).await?;
            taken.borrow_mut().push((seconds, memory));
            Ok(vec![float(users) / seconds, p99])
        },
        async || {
            let alone = place.validation.micros(quiet).await?;
            Ok(vec![float(users) / place.copy(&all).await?, p99(&alone)])
        },
    )
    .await?;
    let mut memory_of_tenth: f64 = 0.0;
    for _ in 0..3 {
        memory_of_tenth = memory_of_tenth.max(place.import(&tenth).await?.1);
    }
    process.stop().await?;

    let report = &mut *bench.report;
    let bound = Some(Bound::AtLeast(LEAST_RATIO));
    let (against, name) = ("COPY of the same rows", "users per second");
    report.compare(GROUP, name, against, measured.medians(0), bound);
    let (seconds, memory): (Vec<f64>, Vec<f64>) = taken.take().into_iter().unzip();
    report.number(GROUP, "seconds for all", median(seconds), None);
    let most = memory.into_iter().fold(0.0, f64::max);
    report.number(GROUP, "memory of the command, MB", most, None);
    let bound = Some(Bound::AtMost(1.1));
    let name = "the same, to that for a tenth";
    report.number(GROUP, name, most / memory_of_tenth, bound);
    let bound = Some(Bound::AtMost(2.0));
    let name = format!("validate p99, us{ordinary}");
    report.compare(GROUP, &name, "without it", measured.medians(1), bound);
    Ok(())
}

struct Place {
    cluster: Cluster,
    fixture: Fixture,
    validation: SteadyValidation,
    /// The rows that the first import made.
    rows: PathBuf,
}

/// What is imported.
struct Records {
    file: PathBuf,
    users: u64,
}

impl Place {
    /// Imports all of them: the seconds from the start of the command to its end, its memory in MB, and the p99 of validation
    /// meanwhile.
    async fn import(&self, records: &Records) -> Result<(f64, f64, f64)> {
        self.empty().await?;
        let log = self.fixture.folder().join("import.log");
        let mut command = self.fixture.command(&["users", "import"]);
        command
            .arg(&records.file)
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        let work = async {
            let mut memory = 0;
            let began = monotonic_now();
            let mut import = command.spawn()?;
            let ended = loop {
                tokio::select! {
                    ended = import.wait() => break ended?,
                    () = sleep(LOOK) => {}
                }
                memory = resident(&import).unwrap_or(memory).max(memory);
            };
            let seconds = began.elapsed().as_secs_f64();
            match ended.success() {
                true => Ok((seconds, float(memory) * 1_024.0 / 1e6)),
                false => Err(fs::read_to_string(&log)?.into()),
            }
        };
        let ((seconds, memory), figures) = self.validation.beside(work).await?;
        self.check_count(records).await?;
        if !self.rows.exists() {
            let copy = format!("COPY users TO '{}'", self.rows.display());
            self.execute(&copy).await?;
        }
        Ok((seconds, memory, p99(&figures)))
    }

    /// The seconds that COPY takes for the rows of an import, into the same table with the same indexes.
    async fn copy(&self, records: &Records) -> Result<f64> {
        self.empty().await?;
        let copy = format!("COPY users FROM '{}'", self.rows.display());
        let client = self.cluster.connect(DATABASE).await?;
        let work = async {
            let began = monotonic_now();
            client.batch_execute(&copy).await?;
            Ok(began.elapsed().as_secs_f64())
        };
        let (seconds, _) = self.validation.beside(work).await?;
        self.check_count(records).await?;
        Ok(seconds)
    }

    /// Both begin with an empty table, and with nothing left to write of what was before.
    async fn empty(&self) -> Result<()> {
        self.execute("TRUNCATE users CASCADE").await?;
        self.execute("CHECKPOINT").await
    }

    async fn execute(&self, statement: &str) -> Result<()> {
        let client = self.cluster.connect(DATABASE).await?;
        Ok(client.batch_execute(statement).await?)
    }

    async fn check_count(&self, records: &Records) -> Result<()> {
        let client = self.cluster.connect(DATABASE).await?;
        let row = client.query_one("SELECT count(*) FROM users", &[]).await?;
        let count: i64 = row.try_get(0)?;
        match u64::try_from(count) == Ok(records.users) {
            true => Ok(()),
            false => Err(format!("{count} users instead of {}", records.users).into()),
        }
    }
}

fn p99(figures: &Figures) -> f64 {
    figures.last().copied().unwrap_or(f64::NAN)
}

impl Records {
    /// Users with bcrypt hashes, which need not be right.
    fn write(folder: &Path, users: u64) -> Result<Self> {
        let file = folder.join(format!("{users}-users.jsonl"));
        let mut writer = BufWriter::new(File::create(&file)?);
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
        writer.flush()?;
        Ok(Self { file, users })
    }
}

/// The most memory that the process has had, in KiB.
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
            .env_clear()
            .envs(self.variables())
            .current_dir(self.folder())
            .kill_on_drop(true);
        command
    }
}

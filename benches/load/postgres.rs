//! A PostgreSQL server for one measurement, with everything forced to disk as in production.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};
use tokio_postgres::{Client, NoTls};

use super::error::Result;

const PATIENCE: Duration = Duration::from_secs(30);

/// A running server; stopped and removed when dropped.
pub struct Cluster {
    bin: PathBuf,
    folder: TempDir,
    server: Child,
    port: u16,
}

impl Cluster {
    /// Starts one from the programs in `bin`.
    pub async fn start(bin: &Path) -> Result<Self> {
        // Not under TMPDIR: the path of a socket may have no more than about 100 bytes.
        let folder = tempfile::Builder::new()
            .prefix("countersign-load.")
            .tempdir_in("/tmp")?;
        if geteuid().is_root() {
            give_to_postgres(folder.path()).await?;
        }
        let data = folder.path().join("data");
        let made = run_as_owner(&bin.join("initdb"))
            .args([
                "-A",
                "trust",
                "-U",
                "postgres",
                "-E",
                "UTF8",
                "--locale=C",
                "-D",
            ])
            .arg(&data)
            .stdout(Stdio::null())
            .status()
            .await?;
        if !made.success() {
            return Err("initdb failed".into());
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let server = run_as_owner(&bin.join("postgres"))
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(folder.path())
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &port.to_string(),
                "-c",
                "max_connections=200",
            ])
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("server.log"))?)
            .kill_on_drop(true)
            .spawn()?;
        let cluster = Self {
            bin: bin.to_owned(),
            folder,
            server,
            port,
        };
        timeout(PATIENCE, async {
            while cluster.connect("postgres").await.is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        })
        .await?;
        Ok(cluster)
    }

    /// Its folder, in which the server may write.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Makes an empty database and returns its URL.
    pub async fn create(&self, name: &str) -> Result<String> {
        let client = self.connect("postgres").await?;
        client
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .await?;
        Ok(self.url(name))
    }

    /// A connection to a database.
    pub async fn connect(&self, name: &str) -> Result<Client> {
        let (client, connection) = tokio_postgres::connect(&self.url(name), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Transactions per second that pgbench reaches with a script.
    pub async fn pgbench(
        &self,
        database: &str,
        script: &str,
        connections: usize,
        duration: Duration,
    ) -> Result<f64> {
        let file = self.folder.path().join("script.sql");
        std::fs::write(&file, script)?;
        let output = Command::new(self.bin.join("pgbench"))
            .args([
                "-n",
                "-M",
                "prepared",
                "-j",
                "2",
                "-h",
                "127.0.0.1",
                "-U",
                "postgres",
            ])
            .args(["-p", &self.port.to_string(), "-c", &connections.to_string()])
            .args(["-T", &duration.as_secs().max(1).to_string(), "-f"])
            .arg(&file)
            .arg(database)
            .kill_on_drop(true)
            .output()
            .await?;
        let text = String::from_utf8_lossy(&output.stdout);
        let rate = text.lines().find_map(|line| line.strip_prefix("tps = "));
        let rate = rate.and_then(|rate| rate.split(' ').next());
        let failure = || String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(rate.ok_or_else(failure)?.parse()?)
    }

    fn url(&self, name: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // An immediate stop leaves nothing behind; if it fails, the server is terminated.
        let id = self.server.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = id.and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::QUIT);
            for _ in 0..100 {
                if !matches!(self.server.try_wait(), Ok(None)) {
                    break;
                }
                std::thread::yield_now();
            }
        }
    }
}

async fn give_to_postgres(folder: &Path) -> Result<()> {
    let mut chown = Command::new("chown");
    chown.arg("postgres:postgres").arg(folder);
    match chown.status().await?.success() {
        true => Ok(()),
        false => Err("there is no user `postgres`".into()),
    }
}

/// PostgreSQL's programs refuse to run as root.
fn run_as_owner(program: &Path) -> Command {
    if geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command
            .args([
                "--reuid=postgres",
                "--regid=postgres",
                "--init-groups",
                "--",
            ])
            .arg(program)
            .current_dir("/");
        command
    } else {
        Command::new(program)
    }
}

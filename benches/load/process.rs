//! The processes that are measured: started, observed through `/proc`, terminated when no longer needed.

use std::{
    ffi::OsStr,
    fs::{self, File},
    net::SocketAddr,
    path::Path,
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

use super::error::Result;

const PATIENCE: Duration = Duration::from_secs(60);

/// A server in a process of its own; terminated when dropped.
pub struct Process {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Process {
    /// Starts the service with these variables and waits until it listens.
    pub async fn countersign(
        program: &Path,
        folder: &Path,
        variables: &[(String, String)],
    ) -> Result<Self> {
        let mut command = in_own_session(program);
        command
            .env_clear()
            .envs(variables.iter().cloned())
            .current_dir(folder);
        Self::start(command, folder).await
    }

    /// Starts this program as an echo server.
    pub async fn echo(folder: &Path, answer_bytes: usize, verify: Option<&str>) -> Result<Self> {
        let mut command = in_own_session(std::env::current_exe()?);
        command
            .arg("echo-server")
            .arg("--answer-bytes")
            .arg(answer_bytes.to_string());
        if let Some(key) = verify {
            command.arg("--verify").arg(key);
        }
        Self::start(command, folder).await
    }

    /// The same, as one that verifies and makes signatures.
    pub async fn echo_that_signs(
        folder: &Path,
        answer_bytes: usize,
        verifications: u32,
    ) -> Result<Self> {
        let mut command = in_own_session(std::env::current_exe()?);
        command
            .arg("echo-server")
            .arg("--answer-bytes")
            .arg(answer_bytes.to_string())
            .arg("--sign")
            .arg(verifications.to_string());
        Self::start(command, folder).await
    }

    /// Starts this program as a server that does nothing but TLS handshakes.
    pub async fn tls(folder: &Path, certificate: &str, key: &str) -> Result<Self> {
        let mut command = in_own_session(std::env::current_exe()?);
        command.args(["tls-server", "--certificate", certificate, "--key", key]);
        Self::start(command, folder).await
    }

    async fn start(mut command: Command, folder: &Path) -> Result<Self> {
        let log = folder.join("server.log");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = timeout(PATIENCE, lines.next_line()).await??;
        let address = line.as_deref().unwrap_or_default();
        let address = address
            .split_whitespace()
            .find_map(|word| word.strip_prefix("grpc="))
            .ok_or_else(|| fs::read_to_string(&log).unwrap_or_default())?
            .parse()?;
        // Keeps reading, so that the server never blocks on a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { child, address })
    }

    /// The processor time that it has used, kernel and user, of all its threads.
    pub fn cpu_time(&self) -> Result<Duration> {
        let mut nanos = 0;
        for task in fs::read_dir(self.proc("task")?)? {
            // A thread may end while we look.
            let stat = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            let running = stat.split_whitespace().next();
            nanos += running.and_then(|text| text.parse().ok()).unwrap_or(0);
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Its resident memory, in bytes.
    pub fn resident(&self) -> Result<u64> {
        let status = fs::read_to_string(self.proc("status")?)?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 = line
            .and_then(|line| line.trim().strip_suffix("kB"))
            .ok_or("no VmRSS")?
            .trim()
            .parse()?;
        Ok(kib * 1024)
    }

    /// Terminates it and waits for its end.
    pub async fn stop(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    fn proc(&self, file: &str) -> Result<String> {
        let id = self.child.id().ok_or("the server has ended")?;
        Ok(format!("/proc/{id}/{file}"))
    }
}

/// A program in a session of its own, as whatever runs services starts them. Linux divides a core between sessions (or
/// control groups) first; a session that server and client shared kept kernel threads from a core for up to a second,
/// see `artifacts/benchmarks/`. `setsid` becomes the program, under the same process id.
fn in_own_session(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setsid");
    command.arg(program);
    command
}

/// A process that does nothing but hash, on every core and at the priority of the service's workers, as another service
/// beside it would; terminated when dropped.
pub struct Hashing(Child);

impl Hashing {
    /// Starts it.
    pub fn start() -> Result<Self> {
        let mut command = in_own_session(std::env::current_exe()?);
        let child = command.arg("hashing").kill_on_drop(true).spawn()?;
        Ok(Self(child))
    }

    /// Terminates it and waits for its end.
    pub async fn stop(mut self) -> Result<()> {
        Ok(self.0.kill().await?)
    }
}

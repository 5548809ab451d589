//! A PostgreSQL server of a test's own, which it may stop as rudely as it likes.

use std::{
    env,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use tempfile::TempDir;

/// A server in a folder of its own; stopped and removed when dropped.
pub struct Cluster {
    folder: TempDir,
    bin: PathBuf,
    port: u16,
}

impl Cluster {
    /// Creates and starts one.
    pub fn start() -> Self {
        // A short path: that of a socket may have no more than about 100 bytes.
        let folder = tempfile::Builder::new()
            .prefix("countersign-cluster.")
            .tempdir_in("/tmp")
            .unwrap();
        let bin = PathBuf::from(env::var("POSTGRES_BIN").expect(
            "POSTGRES_BIN must name the folder of initdb and pg_ctl, for a server that can be stopped: run scripts/test",
        ));
        let mut cluster = Self {
            folder,
            bin,
            port: 0,
        };
        if is_root() {
            let owned = Command::new("chown")
                .arg("postgres:postgres")
                .arg(cluster.folder.path())
                .status();
            assert!(owned.unwrap().success());
        }
        // What the system has taken over survives `immediate`, so nothing need be forced to disk.
        cluster.run(
            "initdb",
            &["--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8"],
        );
        // The port may be taken by another test between asking for it and using it.
        let started = (0..10).any(|_| {
            cluster.port = free_port();
            cluster.try_resume()
        });
        assert!(started, "{}", cluster.log());
        cluster
    }

    /// The URL of its only database.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Stops it as a crash would: connections are torn, transactions are lost.
    pub fn crash(&self) {
        self.run("pg_ctl", &["stop", "-m", "immediate", "-s"]);
    }

    /// Starts it again on the same port, and waits until it answers.
    pub fn resume(&self) {
        assert!(self.try_resume(), "{}", self.log());
    }

    /// Starts it again as a standby of a primary that is gone, and promotes it: it has another timeline then.
    pub fn resume_promoted(&self) {
        self.write("standby.signal", "");
        self.resume();
        self.run("pg_ctl", &["promote", "-w", "-s"]);
    }

    /// Starts it again with TLS, by a certificate and its key in PEM.
    pub fn enable_tls(&self, certificate: &str, key: &str) {
        self.crash();
        self.write("server.crt", certificate);
        self.write("server.key", key);
        self.write("postgresql.auto.conf", "ssl = on\n");
        self.resume();
    }

    /// Writes a file of its data folder, which only its user may read.
    fn write(&self, name: &str, text: &str) {
        let file = self.folder.path().join("data").join(name);
        std::fs::write(&file, text).unwrap();
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&file, mode).unwrap();
        if is_root() {
            let mut own = Command::new("chown");
            let owned = own.arg("postgres:postgres").arg(&file).status();
            assert!(owned.unwrap().success());
        }
    }

    fn try_resume(&self) -> bool {
        let folder = self.folder.path().display();
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={} -c unix_socket_directories={folder} -c fsync=off",
            self.port
        );
        let log = self.log_path();
        self.command("pg_ctl")
            .args(["start", "-w", "-s", "-o", &options, "-l"])
            .arg(log)
            .status()
            .unwrap()
            .success()
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let status = self.command(program).args(arguments).status().unwrap();
        assert!(status.success(), "{program} {arguments:?}: {status}");
    }

    /// PostgreSQL refuses to run as root.
    fn command(&self, program: &str) -> Command {
        let program = self.bin.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid=postgres", "--regid=postgres", "--init-groups"])
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        command
            .env("PGDATA", self.folder.path().join("data"))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self
            .command("pg_ctl")
            .args(["stop", "-m", "immediate", "-s"])
            .status();
    }
}

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

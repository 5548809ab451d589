//! The real binary as a process of its own, for what only a process can show: crashes and exit codes.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::Read as _,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    process::{Output, Stdio},
    time::Duration,
};

use countersign::grpc::pb::{
    LoginRequest, LogoutRequest, RefreshRequest, RegisterRequest, TokenPair, ValidateTokenRequest,
    ValidateTokenResponse, auth_service_client::AuthServiceClient,
};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, Command},
    task::JoinHandle,
    time::timeout,
};
use tonic::{Status, transport::Channel};

use super::{
    PASSWORD, TestDatabase,
    server::{connect, test_variables},
};

/// Where LLVM's instrumentation writes what has been run.
const PROFILE: &str = "LLVM_PROFILE_FILE";

/// How long anything that has to happen may take, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running server process; killed when dropped.
pub struct TestProcess {
    pub child: Child,
    /// Where gRPC is served.
    pub address: SocketAddr,
    pub channel: Channel,
    /// Where HTTP is served, unless it is off.
    pub http: Option<SocketAddr>,
}

impl TestProcess {
    /// Starts the binary and waits until it has said where it listens.
    pub async fn start(database: &TestDatabase) -> Self {
        Self::start_with(database, &[]).await
    }

    /// The same with other settings.
    pub async fn start_with(database: &TestDatabase, variables: &[(&str, &str)]) -> Self {
        let child = command(database, variables).spawn().unwrap();
        Self::started(child, has_tls(variables)).await.0
    }

    /// The same; besides, all that it ever writes comes back once it has ended.
    pub async fn start_recorded(
        database: &TestDatabase,
        variables: &[(&str, &str)],
    ) -> (Self, Recording) {
        let mut command = command(database, variables);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let errors = tokio::spawn(async move {
            let mut said = Vec::new();
            stderr.read_to_end(&mut said).await.unwrap();
            String::from_utf8(said).unwrap()
        });
        let (server, output) = Self::started(child, has_tls(variables)).await;
        (server, Recording { output, errors })
    }

    /// The same, with a standard error that nobody reads: it takes what a pipe holds, and no more.
    pub async fn start_unread(database: &TestDatabase) -> Self {
        let mut command = command(database, &[]);
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        Self::started(child, false).await.0
    }

    async fn started(mut child: Child, has_tls: bool) -> (Self, JoinHandle<String>) {
        let stdout = child.stdout.take().unwrap();
        let mut lines = BufReader::new(stdout).lines();
        let line = timeout(PATIENCE, lines.next_line())
            .await
            .expect("the server starts in time")
            .unwrap()
            .expect("the server says where it listens");
        let told = |port: &str| {
            let mut words = line.split_whitespace();
            words
                .find_map(|word| word.strip_prefix(port))
                .unwrap_or_else(|| panic!("no {port} in {line:?}"))
        };
        let address = told("grpc=").parse().unwrap();
        let http = match told("http=") {
            "off" => None,
            address => Some(address.parse().unwrap()),
        };
        // Keeps reading, so that the server never blocks on a full pipe.
        let output = tokio::spawn(async move {
            let mut said = line + "\n";
            while let Ok(Some(line)) = lines.next_line().await {
                said += &(line + "\n");
            }
            said
        });
        let channel = match has_tls {
            false => connect(address).await,
            // Calls of the test bring a channel of their own.
            true => Channel::from_static("http://tls.invalid").connect_lazy(),
        };
        let server = Self {
            child,
            address,
            channel,
            http,
        };
        (server, output)
    }

    pub fn auth(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.channel.clone())
    }

    /// Registers a user and logs in.
    pub async fn signed_in(&self, email: &str) -> TokenPair {
        let request = RegisterRequest {
            email: email.to_owned(),
            password: PASSWORD.to_owned(),
            display_name: String::new(),
        };
        self.auth().register(request).await.unwrap();
        self.login(email).await.unwrap()
    }

    pub async fn login(&self, email: &str) -> Result<TokenPair, Status> {
        let request = LoginRequest {
            email: email.to_owned(),
            password: PASSWORD.to_owned(),
            device_label: String::new(),
            ..LoginRequest::default()
        };
        let response = self.auth().login(request).await?;
        Ok(response.into_inner().tokens.unwrap())
    }

    pub async fn refresh(&self, refresh_token: &str) -> Result<TokenPair, Status> {
        let request = RefreshRequest {
            refresh_token: refresh_token.to_owned(),
            ..Default::default()
        };
        let response = self.auth().refresh(request).await?;
        Ok(response.into_inner().tokens.unwrap())
    }

    pub async fn logout(&self, refresh_token: &str) -> Result<(), Status> {
        let request = LogoutRequest {
            refresh_token: refresh_token.to_owned(),
        };
        self.auth().logout(request).await.map(drop)
    }

    pub async fn validate(&self, access_token: &str) -> Result<ValidateTokenResponse, Status> {
        let request = ValidateTokenRequest {
            access_token: access_token.to_owned(),
            ..ValidateTokenRequest::default()
        };
        Ok(self.auth().validate_token(request).await?.into_inner())
    }

    /// Where HTTP is served.
    pub fn http(&self) -> SocketAddr {
        self.http.expect("HTTP is not off")
    }

    /// `kill -9`.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Sends a signal and waits for the exit code.
    pub async fn end(mut self, signal: rustix::process::Signal) -> Option<i32> {
        self.signal(signal);
        let status = timeout(PATIENCE, self.child.wait()).await;
        status.expect("the server ends in time").unwrap().code()
    }
}

fn has_tls(variables: &[(&str, &str)]) -> bool {
    variables.contains(&("COUNTERSIGN_TLS", "on"))
}

/// What a process writes, up to its end.
pub struct Recording {
    output: JoinHandle<String>,
    errors: JoinHandle<String>,
}

impl Recording {
    /// Standard output and standard error; waits for the process to close them.
    pub async fn finish(self) -> (String, String) {
        (self.output.await.unwrap(), self.errors.await.unwrap())
    }
}

/// Runs the binary to its end.
pub async fn run(
    database: &TestDatabase,
    variables: &[(&str, &str)],
    arguments: &[&str],
) -> Output {
    let child = command(database, variables)
        .args(arguments)
        .stderr(Stdio::piped())
        .output();
    timeout(PATIENCE, child)
        .await
        .expect("the command ends in time")
        .unwrap()
}

/// Runs the binary to its end as `cargo run` does, with all variables that cargo has: it gives a test the same ones, those of
/// `build.rs` among them.
pub async fn run_as_cargo_does(database: &TestDatabase, arguments: &[&str]) -> Output {
    for (name, told) in [
        ("BUILD_COMMIT", env!("BUILD_COMMIT")),
        ("BUILD_PROTOS", env!("BUILD_PROTOS")),
    ] {
        assert_eq!(
            env::var(name).as_deref(),
            Ok(told),
            "{name} is not passed on"
        );
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command
        .args(arguments)
        .envs(test_variables(database, &[]))
        .current_dir(database.folder.path())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    timeout(PATIENCE, command.output())
        .await
        .expect("the command ends in time")
        .unwrap()
}

/// Runs the binary to its end with a standard output to which nothing can be written.
pub async fn run_unwritten(database: &TestDatabase, arguments: &[&str]) -> Output {
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = command(database, &[]);
    command.args(arguments).stderr(Stdio::piped());
    // `output` would replace it by a pipe.
    let child = command.stdout(full).spawn().unwrap();
    timeout(PATIENCE, child.wait_with_output())
        .await
        .expect("the command ends in time")
        .unwrap()
}

/// Runs the binary to its end with this standard input.
pub async fn run_with_input(
    database: &TestDatabase,
    arguments: &[&str],
    input: impl AsRef<[u8]>,
) -> Output {
    let mut command = command(database, &[]);
    command.args(arguments);
    let mut child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let write = async {
        // The command may end before it has read everything.
        let _ = stdin.write_all(input.as_ref()).await;
        drop(stdin);
    };
    let ((), output) = timeout(PATIENCE, async {
        tokio::join!(write, child.wait_with_output())
    })
    .await
    .expect("the command ends in time");
    output.unwrap()
}

/// Runs the binary to its end with a terminal as its standard error: the rest, and what the terminal was sent.
pub async fn run_on_terminal(database: &TestDatabase, arguments: &[&str]) -> (Output, String) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let screen = openpt(flags).unwrap();
    unlockpt(&screen).unwrap();
    let mut command = command(database, &[("TERM", "xterm")]);
    command.args(arguments);
    command.stderr(ioctl_tiocgptpeer(&screen, flags).unwrap());
    let child = command.spawn().unwrap();
    // This process has the terminal open no longer.
    drop(command);
    let shown = tokio::task::spawn_blocking(move || {
        let mut shown = Vec::new();
        // It ends with EIO when the last program has closed the terminal.
        let _ = fs::File::from(screen).read_to_end(&mut shown);
        String::from_utf8(shown).unwrap()
    });
    let output = timeout(PATIENCE, child.wait_with_output())
        .await
        .expect("the command ends in time")
        .unwrap();
    (output, shown.await.unwrap())
}

/// Starts the binary; it is killed when the result is dropped.
pub fn spawn(database: &TestDatabase, arguments: &[&str]) -> Child {
    command(database, &[]).args(arguments).spawn().unwrap()
}

/// Runs the binary to its end, as a user for whom the permissions of files count: root is above them.
pub async fn run_unprivileged(database: &TestDatabase, arguments: &[&str]) -> Output {
    const NOBODY: u32 = 65_534;
    let mut command = if rustix::process::geteuid().is_root() {
        // The build's own folder may be closed to others.
        let program = database.folder.path().join("program");
        if !program.exists() {
            fs::copy(env!("CARGO_BIN_EXE_countersign"), &program).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut command = command_of(program, database, &[]);
        // Nor can nobody write a profile where the others do.
        command.uid(NOBODY).gid(NOBODY).env(PROFILE, "/dev/null");
        command
    } else {
        command(database, &[])
    };
    command.args(arguments).stderr(Stdio::piped());
    timeout(PATIENCE, command.output())
        .await
        .expect("the command ends in time")
        .unwrap()
}

fn command(database: &TestDatabase, variables: &[(&str, &str)]) -> Command {
    command_of(env!("CARGO_BIN_EXE_countersign"), database, variables)
}

fn command_of(
    program: impl AsRef<OsStr>,
    database: &TestDatabase,
    variables: &[(&str, &str)],
) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs(test_variables(database, variables))
        // Under `scripts/coverage`, what a process of its own runs counts as well.
        .envs(env::var_os(PROFILE).map(|file| (PROFILE, file)))
        .current_dir(database.folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true);
    command
}

//! The real binary as a process of its own, for what only a process can show: crashes and exit codes.

use std::{
    net::SocketAddr,
    process::{Output, Stdio},
    time::Duration,
};

use countersign::grpc::pb::{
    LoginRequest, LogoutRequest, RefreshRequest, RegisterRequest, TokenPair, ValidateTokenRequest,
    ValidateTokenResponse, auth_service_client::AuthServiceClient,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};
use tonic::{Status, transport::Channel};

use super::{
    PASSWORD, TestDatabase,
    server::{connect, test_variables},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A running server process; killed when dropped.
pub struct TestProcess {
    pub child: Child,
    pub channel: Channel,
}

impl TestProcess {
    /// Starts the binary and waits until it has said where it listens.
    pub async fn start(database: &TestDatabase) -> Self {
        Self::start_with(database, &[]).await
    }

    /// The same with other settings.
    pub async fn start_with(database: &TestDatabase, variables: &[(&str, &str)]) -> Self {
        let mut child = command(database, variables).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let mut lines = BufReader::new(stdout).lines();
        let line = timeout(PATIENCE, lines.next_line())
            .await
            .expect("the server starts in time")
            .unwrap()
            .expect("the server says where it listens");
        let address: SocketAddr = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix("grpc="))
            .unwrap_or_else(|| panic!("no address in {line:?}"))
            .parse()
            .unwrap();
        // Keeps reading, so that the server never blocks on a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self {
            child,
            channel: connect(address).await,
        }
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
        };
        let response = self.auth().login(request).await?;
        Ok(response.into_inner().tokens.unwrap())
    }

    pub async fn refresh(&self, refresh_token: &str) -> Result<TokenPair, Status> {
        let request = RefreshRequest {
            refresh_token: refresh_token.to_owned(),
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

fn command(database: &TestDatabase, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command
        .env_clear()
        .envs(test_variables(database, variables))
        .current_dir(database.folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true);
    command
}

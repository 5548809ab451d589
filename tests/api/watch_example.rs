//! The example `watch` as its user sees it: it goes on through outages, and ends with a clear error when its credential is
//! refused.

use std::{
    env,
    path::PathBuf,
    process::{Output, Stdio},
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::support::{
    PATIENCE, TestDatabase, TestServer, on_both_databases,
    services::{Rights, Service},
};

/// No other test listens on this address, so that none takes the port between a stop and a start.
const OWN_ADDRESS: &str = "127.0.0.3:0";

const WATCHES: Rights<'_> = Rights {
    roles: "verifier",
    audiences: "",
    act_for_users_at: "",
};

/// The program: cargo builds examples beside the tests of a package.
fn program() -> PathBuf {
    let test = env::current_exe().unwrap();
    let folder = test.ancestors().nth(2).unwrap();
    let program = folder.join("examples/watch");
    assert!(
        program.exists(),
        "{} is missing: cargo build --example watch",
        program.display()
    );
    program
}

fn watch(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs the program to its end.
async fn ended(arguments: &[&str]) -> (Option<i32>, String) {
    let output = timeout(PATIENCE, watch(arguments).output()).await;
    let Output { status, stderr, .. } = output.expect("the watcher ends").unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

/// The running program.
struct Running {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(address: &str, key: &str) -> Self {
        let mut child = watch(&[address, key])
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            _child: child,
            lines,
        }
    }

    /// Waits for a line that has this in it.
    async fn says(&mut self, part: &str) {
        let heard = async {
            loop {
                let line = self.lines.next_line().await.unwrap();
                if line.expect("the watcher goes on").contains(part) {
                    return;
                }
            }
        };
        let heard = timeout(PATIENCE, heard).await;
        heard.unwrap_or_else(|_| panic!("the watcher does not say {part:?}"));
    }
}

async fn start_at(database: &TestDatabase, address: &str) -> TestServer {
    let address = [("COUNTERSIGN_GRPC_ADDR", address)];
    TestServer::start_on_system_clock(database, &address).await
}

/// Ends a session, and returns its id.
async fn ended_session(server: &TestServer) -> String {
    let tokens = server.login("ada@example.org").await.unwrap();
    server.logout(&tokens.refresh_token).await.unwrap();
    tokens.session_id
}

on_both_databases! {
    async fn a_refused_credential_ends_the_watcher_with_a_clear_error(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let address = format!("http://{}", server.address);
        let admin = server.administrator().await;
        let revoked = server.service(&admin, "revoked", WATCHES).await;
        server.revoke_key(&admin, &revoked.key).await.unwrap();
        let other = server.service(&admin, "other", Rights::default()).await;
        let not_accepted = "watch: the service key is not accepted: The credential of the service is not valid.\n";
        for (key, error) in [
            ("csk_nonsense", not_accepted),
            (revoked.secret.as_str(), not_accepted),
            (other.secret.as_str(), "watch: the service account may not watch: The token lacks a required role.\n"),
        ] {
            assert_eq!(ended(&[&address, key]).await, (Some(1), error.to_owned()));
        }
        let (code, error) = ended(&["", &other.secret]).await;
        assert_eq!(code, Some(1));
        assert!(error.starts_with("watch: \"\" is no URL of a server: "), "{error}");
        let usage = (Some(2), "usage: watch ADDRESS SERVICE_KEY\n".to_owned());
        assert_eq!(ended(&[]).await, usage);
    }

    async fn the_watcher_continues_after_outages(database: TestDatabase) {
        let server = start_at(&database, OWN_ADDRESS).await;
        let address = server.address.to_string();
        let admin = server.administrator().await;
        let Service { secret, .. } = server.service(&admin, "gateway", WATCHES).await;
        server.register("ada@example.org").await.unwrap();
        server.stop().await;

        // It begins during an outage, and meets another one.
        let mut watcher = Running::start(&format!("http://{address}"), &secret);
        for _ in 0..2 {
            for _ in 0..2 {
                watcher.says(": resuming").await;
            }
            let server = start_at(&database, &address).await;
            watcher.says("up to date: ").await;
            let session = ended_session(&server).await;
            watcher.says(&session).await;
            server.stop().await;
        }
    }
}

//! The command line as operators and their scripts meet it: what each command needs, its exit code, its signals.

use std::{fs, process::ExitStatus};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::timeout;

use crate::support::{
    Kind, PATIENCE, TestDatabase, TestServer, on_both_databases,
    process::{TestProcess, run, run_as_cargo_does, run_unwritten},
};

/// Production as a job has it that only migrates: the database and nothing else.
fn production(database: &TestDatabase) -> Vec<(&'static str, String)> {
    let mut variables = vec![
        ("COUNTERSIGN_PROFILE", "production".to_owned()),
        ("COUNTERSIGN_MASTER_KEYS", String::new()),
        ("COUNTERSIGN_MAIL_FOLDER", String::new()),
        ("COUNTERSIGN_ARGON2_MEMORY_KIB", String::new()),
    ];
    // The tests' own database is on this machine.
    variables.push(("COUNTERSIGN_DATABASE_URL", database.url.clone()));
    variables
}

async fn ended(mut process: TestProcess) -> ExitStatus {
    timeout(PATIENCE, process.child.wait())
        .await
        .expect("the server ends")
        .unwrap()
}

on_both_databases! {
    async fn migrate_in_production_needs_only_the_database(database: TestDatabase) {
        let variables = production(&database);
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let migrated = run(&database, &variables, &["migrate"]).await;
        assert_eq!(migrated.status.code(), Some(0), "{migrated:?}");
        let said = String::from_utf8(migrated.stdout).unwrap();
        assert!(said.contains("migrations applied"), "{said}");
        // The server itself needs more.
        let refused = run(&database, &variables, &[]).await;
        assert_eq!(refused.status.code(), Some(78), "{refused:?}");
    }

    async fn a_command_whose_output_is_lost_fails(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        // There is something to export.
        server.register("ada@example.org").await.unwrap();
        server.stop().await;
        for arguments in [
            ["keys", "list"].as_slice(),
            &["keys", "rewrap"],
            &["audit", "export"],
            &["audit", "export", "--follow"],
            &["config", "check"],
            &["migrate"],
            &["--help"],
            &["--version"],
        ] {
            let output = run_unwritten(&database, arguments).await;
            assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        }
    }

    async fn sighup_shuts_the_server_down_gracefully(database: TestDatabase) {
        let (process, recording) = TestProcess::start_recorded(&database, &[("COUNTERSIGN_LOG", "info")]).await;
        let pid = Pid::from_raw(process.child.id().unwrap().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::HUP).unwrap();
        assert_eq!(ended(process).await.code(), Some(0));
        let (_, errors) = recording.finish().await;
        assert!(errors.contains("SIGHUP: shutting down"), "{errors}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_in_production_needs_only_the_database() {
    let database = TestDatabase::create(Kind::Sqlite).await;
    TestServer::start(&database).await.stop().await;
    let variables = production(&database);
    let variables: Vec<_> = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let copied = run(&database, &variables, &["backup", "copy.db"]).await;
    assert_eq!(copied.status.code(), Some(0), "{copied:?}");
    assert!(fs::metadata(database.folder.path().join("copy.db")).is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_version_names_the_commit_and_the_protos() {
    let database = TestDatabase::create(Kind::Sqlite).await;
    let output = run(&database, &[], &["--version"]).await;
    let said = String::from_utf8(output.stdout).unwrap();
    for line in ["commit: ", "protos: countersign.auth.v1 ", "argon2: "] {
        assert!(
            said.lines().any(|text| text.starts_with(line)),
            "{line} is missing in {said}"
        );
    }
    let short = run(&database, &[], &["-V"]).await;
    assert_eq!(String::from_utf8(short.stdout).unwrap().lines().count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn build_variables_are_not_read_as_configuration() {
    let database = TestDatabase::create(Kind::Sqlite).await;
    let checked = run_as_cargo_does(&database, &["config", "check"]).await;
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
}

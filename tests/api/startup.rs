//! A start that cannot succeed: one clear line, the right exit code, never a panic.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Output};

use crate::support::{
    Kind, TestDatabase, TestServer, on_both_databases,
    process::{run, run_unprivileged},
};

/// What a command that must fail said, after checking that it is one line and no panic.
async fn refusal(database: &TestDatabase, variables: &[(&str, &str)], code: i32) -> String {
    told(&run(database, variables, &[]).await, code)
}

fn told(output: &Output, code: i32) -> String {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    said
}

on_both_databases! {
    async fn a_database_from_a_newer_version_is_left_alone(database: TestDatabase) {
        TestServer::start(&database).await.stop().await;
        database.execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('29990101000000')").await;
        let said = refusal(&database, &[], 1).await;
        assert!(said.contains("newer version"), "{said}");
    }

    async fn a_wrong_or_missing_master_key_is_told(database: TestDatabase) {
        TestServer::start(&database).await.stop().await;
        let wrong = "v1://///////////////////////////////////////38=";
        let said = refusal(&database, &[("COUNTERSIGN_MASTER_KEYS", wrong)], 1).await;
        assert!(said.contains("not the one it was sealed with"), "{said}");
        let missing = "v2://///////////////////////////////////////38=";
        let said = refusal(&database, &[("COUNTERSIGN_MASTER_KEYS", missing)], 1).await;
        assert!(said.contains("COUNTERSIGN_MASTER_KEYS"), "{said}");
    }

    async fn a_port_that_is_taken_is_told(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let address = server.address.to_string();
        let said = refusal(&database, &[("COUNTERSIGN_GRPC_ADDR", &address)], 1).await;
        assert!(said.contains(&address), "{said}");
        let address = server.http().to_string();
        let said = refusal(&database, &[("COUNTERSIGN_HTTP_ADDR", &address)], 1).await;
        assert!(said.contains(&address), "{said}");
    }

    async fn the_command_line_keeps_to_its_exit_codes(database: TestDatabase) {
        let migrated = run(&database, &[], &["migrate"]).await;
        assert_eq!(migrated.status.code(), Some(0), "{migrated:?}");
        let checked = run(&database, &[], &["config", "check"]).await;
        assert_eq!(checked.status.code(), Some(0));
        let help = run(&database, &[], &["--help"]).await;
        assert_eq!(help.status.code(), Some(0));
        let usage = run(&database, &[], &["nonsense"]).await;
        assert_eq!(usage.status.code(), Some(64));
        let bad = [("COUNTERSIGN_ACCESS_TOKEN_TTL", "soon"), ("COUNTERSIGN_GRPC_ADDR", "here")];
        let config = run(&database, &bad, &["config", "check"]).await;
        assert_eq!(config.status.code(), Some(78));
        let said = String::from_utf8(config.stderr).unwrap();
        for (variable, _) in bad {
            assert!(said.contains(variable), "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sqlite_file_that_cannot_be_used_is_told() {
    let database = TestDatabase::create(Kind::Sqlite).await;
    let path = database.sqlite_path();

    fs::write(&path, "this is no database, but text of some length").unwrap();
    let said = refusal(&database, &[], 1).await;
    assert!(said.contains("not a database"), "{said}");
    fs::remove_file(&path).unwrap();

    // A folder stands where the file should be; unlike a permission, this stops root as well.
    fs::create_dir(&path).unwrap();
    let said = refusal(&database, &[], 1).await;
    assert!(said.contains("countersign.db"), "{said}");
    fs::remove_dir(&path).unwrap();

    fs::write(database.folder.path().join("file"), "").unwrap();
    let below_a_file = format!("sqlite://{}/file/x.db", database.folder.path().display());
    let said = refusal(&database, &[("COUNTERSIGN_DATABASE_URL", &below_a_file)], 1).await;
    assert!(said.contains("x.db"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sqlite_file_that_may_not_be_written_is_told() {
    let database = TestDatabase::create(Kind::Sqlite).await;
    TestServer::start(&database).await.stop().await;
    let (folder, file) = (database.folder.path(), database.sqlite_path());

    allow(folder, 0o777);
    allow(&file, 0o444);
    let said = told(&run_unprivileged(&database).await, 1);
    assert!(said.contains("Permission denied"), "{said}");

    // The file may be written, but SQLite needs two more beside it.
    allow(&file, 0o666);
    allow(folder, 0o555);
    let said = told(&run_unprivileged(&database).await, 1);
    assert!(said.contains("database"), "{said}");

    // Not even a new one can be made.
    allow(folder, 0o755);
    fs::remove_file(&file).unwrap();
    allow(folder, 0o555);
    let said = told(&run_unprivileged(&database).await, 1);
    assert!(said.contains("countersign.db"), "{said}");
    allow(folder, 0o755);
}

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_sqlite_file_is_made_folders_and_all() {
    let database = TestDatabase::create(Kind::Sqlite).await;
    let missing = format!(
        "sqlite://{}/not/yet/there.db",
        database.folder.path().display()
    );
    let output = run(
        &database,
        &[("COUNTERSIGN_DATABASE_URL", &missing)],
        &["migrate"],
    )
    .await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(database.folder.path().join("not/yet/there.db").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sqlite_file_that_is_locked_is_told() {
    let database = TestDatabase::create(Kind::Sqlite).await;
    let path = database.sqlite_path();
    let _lock = crate::support::database::lock_sqlite(&path);
    let said = refusal(&database, &[], 1).await;
    assert!(said.contains("locked"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_not_there_is_told() {
    let database = TestDatabase::create(Kind::Sqlite).await;
    let nowhere = "postgres://postgres:hunter2@127.0.0.1:1/postgres";
    let said = refusal(&database, &[("COUNTERSIGN_DATABASE_URL", nowhere)], 1).await;
    assert!(
        said.contains("refused") && !said.contains("hunter2"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_the_database_are_private() {
    let database = TestDatabase::create(Kind::Sqlite).await;
    TestServer::start(&database).await.stop().await;
    let mode = fs::metadata(database.sqlite_path())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

//! A start that cannot succeed: one clear line, the right exit code, never a panic.

use std::{
    fs, os::unix::fs::PermissionsExt as _, path::Path, process::Output, sync::Arc, time::Duration,
};

use rustix::process::Signal;
use tokio::{net::TcpListener, task::spawn_blocking, time::Instant};

use crate::support::{
    Kind, TestDatabase, TestServer,
    cluster::Cluster,
    on_both_databases,
    process::{TestProcess, run, run_unprivileged},
    server::MASTER_KEYS,
};

/// What a command that must fail said, after checking that it is one line and no panic.
async fn refusal(database: &TestDatabase, variables: &[(&str, &str)], code: i32) -> String {
    reported(&run(database, variables, &[]).await, code)
}

fn reported(output: &Output, code: i32) -> String {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    said
}

on_both_databases! {
    async fn a_database_of_an_incompatible_newer_version_is_refused_and_not_changed(database: TestDatabase) {
        TestServer::start(&database).await.stop().await;
        database.execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('29990101000000')").await;
        database.execute("UPDATE schema_compatibility SET least_migration = '29990101000000'").await;
        let said = refusal(&database, &[], 1).await;
        assert!(said.contains("newer version"), "{said}");
    }

    async fn a_newer_schema_that_only_adds_is_used(database: TestDatabase) {
        TestServer::start(&database).await.stop().await;
        // What the next version may add: a migration, a table, a column with a default.
        database.execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('29990101000000')").await;
        database.execute("CREATE TABLE added_later (id TEXT NOT NULL PRIMARY KEY)").await;
        for table in ["users", "sessions", "revocations", "audit_events", "login_failures"] {
            database.execute(&format!("ALTER TABLE {table} ADD COLUMN added_later TEXT NOT NULL DEFAULT ''")).await;
        }
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        server.refresh(&tokens.refresh_token).await.unwrap();
        server.stop().await;
        let migrated = run(&database, &[], &["migrate"]).await;
        assert_eq!(migrated.status.code(), Some(0), "{migrated:?}");
    }

    async fn a_wrong_or_missing_master_key_is_reported(database: TestDatabase) {
        TestServer::start(&database).await.stop().await;
        let wrong = "v1://///////////////////////////////////////38=";
        let said = refusal(&database, &[("COUNTERSIGN_MASTER_KEYS", wrong)], 1).await;
        assert!(said.contains("not the one it was sealed with"), "{said}");
        let missing = "v2://///////////////////////////////////////38=";
        let said = refusal(&database, &[("COUNTERSIGN_MASTER_KEYS", missing)], 1).await;
        assert!(said.contains("COUNTERSIGN_MASTER_KEYS"), "{said}");
    }

    async fn a_port_that_is_taken_is_refused_under_its_variable(database: TestDatabase) {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        for variable in ["COUNTERSIGN_GRPC_ADDR", "COUNTERSIGN_HTTP_ADDR"] {
            let said = refusal(&database, &[(variable, &address), ("COUNTERSIGN_MASTER_KEYS", MASTER_KEYS)], 1).await;
            assert!(said.contains(&format!("{variable}: cannot listen on {address}")), "{said}");
            assert!(said.contains("another program"), "{said}");
        }
        // The ports come first: nothing was created.
        assert!(!database.sqlite_path().exists());
        let migrated = run(&database, &[], &["migrate"]).await;
        let said = String::from_utf8(migrated.stdout).unwrap();
        assert!(!said.contains(" 0 migrations"), "{said}");
    }

    async fn a_lost_key_file_is_not_replaced(database: TestDatabase) {
        // In development the key file of PostgreSQL is in data/, that of SQLite beside the database.
        let development = [("COUNTERSIGN_PROFILE", "development"), ("COUNTERSIGN_MASTER_KEYS", "")];
        let server = TestProcess::start_with(&database, &development).await;
        server.signed_in("ada@example.org").await;
        server.kill().await;
        let key_file = database.folder.path().join(match database.kind {
            Kind::Sqlite => "master.key",
            Kind::Postgres => "data/master.key",
        });
        let kept = database.folder.path().join("kept.key");
        fs::rename(&key_file, &kept).unwrap();

        let said = refusal(&database, &development, 1).await;
        assert!(said.contains("master.key is missing") && said.contains("from a backup"), "{said}");
        assert!(!key_file.exists(), "a new key file was created");
        for command in [&["keys", "rotate"][..], &["keys", "rewrap"]] {
            let refused = run(&database, &development, command).await;
            assert!(reported(&refused, 1).contains("is missing"), "{command:?}");
            assert!(!key_file.exists(), "{command:?} created a key file");
        }

        fs::rename(&kept, &key_file).unwrap();
        let server = TestProcess::start_with(&database, &development).await;
        server.login("ada@example.org").await.unwrap();
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
async fn a_sqlite_file_that_cannot_be_used_is_reported() {
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
async fn a_sqlite_file_that_may_not_be_written_is_reported() {
    let database = TestDatabase::create(Kind::Sqlite).await;
    TestServer::start(&database).await.stop().await;
    let (folder, file) = (database.folder.path(), database.sqlite_path());

    allow(folder, 0o777);
    allow(&file, 0o444);
    let said = reported(&run_unprivileged(&database, &[]).await, 1);
    assert!(said.contains("Permission denied"), "{said}");

    // The file may be written, but SQLite needs two more beside it.
    allow(&file, 0o666);
    allow(folder, 0o555);
    let said = reported(&run_unprivileged(&database, &[]).await, 1);
    assert!(said.contains("database"), "{said}");

    // Not even a new one can be made.
    allow(folder, 0o755);
    fs::remove_file(&file).unwrap();
    allow(folder, 0o555);
    let said = reported(&run_unprivileged(&database, &[]).await, 1);
    assert!(said.contains("countersign.db"), "{said}");
    allow(folder, 0o755);
}

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_sqlite_file_is_created_with_its_folders() {
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
async fn a_sqlite_file_that_is_locked_is_reported() {
    let database = TestDatabase::create(Kind::Sqlite).await;
    let path = database.sqlite_path();
    let _lock = crate::support::database::lock_sqlite(&path);
    let said = refusal(&database, &[], 1).await;
    assert!(said.contains("locked"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_stays_away_is_reported() {
    let database = TestDatabase::create(Kind::Sqlite).await;
    let nowhere = "postgres://postgres:hunter2@127.0.0.1:1/postgres";
    let at_once = [
        ("COUNTERSIGN_DATABASE_URL", nowhere),
        ("COUNTERSIGN_DATABASE_START_TIMEOUT", "0s"),
    ];
    let said = refusal(&database, &at_once, 1).await;
    assert!(
        said.contains("refused") && !said.contains("hunter2"),
        "{said}"
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("postgres://a:hunter2@{}/b", listener.local_addr().unwrap());
    for (url, cause) in [(nowhere, "refused"), (silent.as_str(), "no answer in time")] {
        let patient = [
            ("COUNTERSIGN_DATABASE_URL", url),
            ("COUNTERSIGN_DATABASE_START_TIMEOUT", "2s"),
        ];
        let output = run(&database, &patient, &[]).await;
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        let last = said.lines().last().unwrap();
        assert!(
            said.contains("waiting for the database postgres://"),
            "{said}"
        );
        assert!(
            last.starts_with("countersign: ") && last.contains(cause),
            "{said}"
        );
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_waits_for_a_database_that_comes_back() {
    let cluster = Arc::new(spawn_blocking(Cluster::start).await.unwrap());
    let database = TestDatabase::of_cluster(cluster.url());
    let stopped = Arc::clone(&cluster);
    spawn_blocking(move || stopped.crash()).await.unwrap();
    let starting = tokio::spawn({
        let database = database.clone();
        async move { TestProcess::start_recorded(&database, &[]).await }
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!starting.is_finished());
    let resumed = Arc::clone(&cluster);
    spawn_blocking(move || resumed.resume()).await.unwrap();
    let (server, recording) = starting.await.unwrap();
    server.signed_in("ada@example.org").await;
    server.signal(Signal::TERM);
    let (_, errors) = recording.finish().await;
    assert!(errors.contains("waiting for the database"), "{errors}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_refuses_is_reported_at_once() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let (server, name) = database.url.rsplit_once('/').unwrap();
    let latin = format!("latin_{name}");
    let create = format!(
        "CREATE DATABASE {latin} ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    );
    database.execute(&create).await;
    let unknown_role = database.url.replacen("postgres@", "nobody_here@", 1);
    for (url, code) in [
        (format!("{server}/nowhere_{name}"), "3D000"),
        (unknown_role, "28000"),
        (format!("{server}/{latin}"), "ENCODING"),
    ] {
        let start = Instant::now();
        let said = refusal(&database, &[("COUNTERSIGN_DATABASE_URL", &url)], 1).await;
        assert!(said.contains(code), "{said}");
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{:?}",
            start.elapsed()
        );
    }
    database.execute(&format!("DROP DATABASE {latin}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_of_the_configuration_and_the_start_agree_on_urls() {
    let database = TestDatabase::create(Kind::Postgres).await;
    for (query, name) in [
        ("sslmode=allow", "sslmode"),
        ("sslmode=verify-ca", "sslmode"),
        (
            "sslmode=verify-full&sslrootcert=/nonexistent/ca.pem",
            "sslrootcert",
        ),
        ("connect_timeout=10&nonsense=1", "nonsense"),
    ] {
        let url = format!("{}?{query}", database.url);
        for command in [&["config", "check"][..], &["migrate"]] {
            let output = run(&database, &[("COUNTERSIGN_DATABASE_URL", &url)], command).await;
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(78), "{query}: {said}");
            assert!(said.contains(name), "{query}: {said}");
        }
    }
    for query in [
        "gssencmode=disable",
        "target_session_attrs=primary",
        "application_name=x&connect_timeout=5&keepalives_idle=9",
    ] {
        let url = format!("{}?{query}", database.url);
        for command in [&["config", "check"][..], &["migrate"]] {
            let output = run(&database, &[("COUNTERSIGN_DATABASE_URL", &url)], command).await;
            assert_eq!(output.status.code(), Some(0), "{query}: {output:?}");
        }
    }
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_only_use_a_database_create_none() {
    let database = TestDatabase::create(Kind::Sqlite).await;
    let no_keys = [("COUNTERSIGN_MASTER_KEYS", "")];
    for command in [
        &["users", "grant", "ada@example.org", "admin"][..],
        &["users", "disable", "ada@example.org"],
        &["keys", "list"],
        &["keys", "rotate"],
        &["keys", "rewrap"],
    ] {
        let said = reported(&run(&database, &no_keys, command).await, 1);
        assert!(
            said.contains("countersign.db") && said.contains("migrate"),
            "{said}"
        );
    }
    let checked = run(&database, &no_keys, &["config", "check"]).await;
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    let created: Vec<_> = fs::read_dir(database.folder.path()).unwrap().collect();
    assert!(created.is_empty(), "{created:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_on_one_sqlite_file_is_refused() {
    let database = TestDatabase::create(Kind::Sqlite).await;
    let first = TestProcess::start(&database).await;
    let said = refusal(&database, &[], 1).await;
    assert!(
        said.contains("another server") && said.contains("PostgreSQL"),
        "{said}"
    );
    assert!(
        said.contains(&first.child.id().unwrap().to_string()),
        "{said}"
    );
    // The same file by another name.
    let alias = database.folder.path().join("alias.db");
    std::os::unix::fs::symlink(database.sqlite_path(), &alias).unwrap();
    let alias = format!("sqlite://{}", alias.display());
    let said = refusal(&database, &[("COUNTERSIGN_DATABASE_URL", &alias)], 1).await;
    assert!(said.contains("another server"), "{said}");
    // Commands may use it meanwhile, and a crash releases it.
    let listed = run(&database, &[], &["keys", "list"]).await;
    assert_eq!(listed.status.code(), Some(0), "{listed:?}");
    first.kill().await;
    TestProcess::start(&database)
        .await
        .signed_in("ada@example.org")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn config_check_prints_a_summary_and_no_secret() {
    let database = TestDatabase::create(Kind::Sqlite).await;
    let checked = run(
        &database,
        &[("COUNTERSIGN_TRUSTED_PROXIES", "10.0.0.0/8")],
        &["config", "check"],
    )
    .await;
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    let said = String::from_utf8(checked.stdout).unwrap();
    for part in [
        "profile      test",
        "proxies      10.0.0.0/8",
        &database.url,
        "v1 (the first is active)",
    ] {
        assert!(said.contains(part), "{part} is missing in {said}");
    }
    assert!(
        !said.contains(['{', '"']),
        "this looks like Rust's Debug: {said}"
    );
    assert!(!said.contains(&MASTER_KEYS[3..]), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn config_check_reports_files_that_cannot_be_used() {
    let database = TestDatabase::create(Kind::Sqlite).await;
    let folder = database.folder.path();
    let check = async |variables: &[(&str, &str)]| {
        reported(&run(&database, variables, &["config", "check"]).await, 78)
    };

    fs::write(folder.join("file"), "").unwrap();
    let below_a_file = format!("sqlite://{}/file/x.db", folder.display());
    let said = check(&[("COUNTERSIGN_DATABASE_URL", &below_a_file)]).await;
    assert!(said.starts_with("COUNTERSIGN_DATABASE_URL: "), "{said}");

    let no_keys = [("COUNTERSIGN_MASTER_KEYS", "")];
    let key_file = folder.join("master.key");
    fs::write(&key_file, "v1:c2hvcnQ=").unwrap();
    allow(&key_file, 0o644);
    let said = check(&no_keys).await;
    assert!(
        said.starts_with("COUNTERSIGN_MASTER_KEYS: ") && said.contains("chmod 600"),
        "{said}"
    );
    allow(&key_file, 0o600);
    let said = check(&no_keys).await;
    assert!(
        said.contains("no usable keys") && !said.contains("c2hv"),
        "{said}"
    );

    allow(folder, 0o555);
    let output = run_unprivileged_beside(&database).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{said}");
    // Mails become files in the same folder.
    for variable in ["COUNTERSIGN_DATABASE_URL: ", "COUNTERSIGN_MAIL_FOLDER: "] {
        let line = said.lines().find(|line| line.starts_with(variable));
        assert!(
            line.is_some_and(|line| line.contains("Permission denied")),
            "{said}"
        );
    }
    assert_eq!(said.lines().count(), 2, "{said}");
    allow(folder, 0o755);
}

#[tokio::test]
async fn a_file_of_trusted_issuers_that_cannot_be_used_is_reported_with_its_line() {
    let database = TestDatabase::create(Kind::Sqlite).await;
    let file = database.folder.path().join("issuers.toml");
    let path = file.to_str().unwrap();
    let variables = [("COUNTERSIGN_TRUSTED_ISSUERS_FILE", path)];
    let good = "[[issuer]]\nname = \"ci\"\nissuer = \"https://ci.example.com\"\naudience = \"a\"\n\
                jwks_url = \"https://ci.example.com/jwks\"\nalgorithms = [\"RS256\"]\n";
    let unknown = good.replace("audience", "audiense");
    let loose =
        format!("{good}[[binding]]\nissuer = \"cd\"\nsubject = \"s\"\nservice_account = \"a\"\n");
    let missing = good.replace(
        "jwks_url = \"https://ci.example.com/jwks\"",
        "jwks_file = \"/missing\"",
    );
    for (text, expected) in [
        (
            unknown.as_str(),
            format!("{path} line 4: unknown field `audiense`"),
        ),
        (
            &loose,
            format!("{path} line 7: issuer is not the name of an issuer of this file"),
        ),
        (&missing, "/missing cannot be read: ".to_owned()),
    ] {
        fs::write(&file, text).unwrap();
        let expected = format!("COUNTERSIGN_TRUSTED_ISSUERS_FILE: {expected}");
        let checked = run(&database, &variables, &["config", "check"]).await;
        assert!(reported(&checked, 78).starts_with(&expected), "{checked:?}");
        let started = run(&database, &variables, &[]).await;
        assert!(reported(&started, 1).contains(&expected), "{started:?}");
    }
    fs::write(&file, good).unwrap();
    let checked = run(&database, &variables, &["config", "check"]).await;
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(
        checked.status.success() && said.contains("1 with 0 bindings"),
        "{said}"
    );
}

/// `config check` as a user for whom permissions count. Copies the program first, so the folder has to be writable.
async fn run_unprivileged_beside(database: &TestDatabase) -> Output {
    allow(database.folder.path(), 0o755);
    let _ = run_unprivileged(database, &["--version"]).await;
    allow(database.folder.path(), 0o555);
    run_unprivileged(database, &["config", "check"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_env_file_is_refused_by_line() {
    let database = TestDatabase::create(Kind::Sqlite).await;
    let text = "COUNTERSIGN_LOG=info\nCOUNTERSIGN_MASTER_KEYS 'hunter2\n";
    fs::write(database.folder.path().join(".env"), text).unwrap();
    let development = [("COUNTERSIGN_PROFILE", "development")];
    let said = refusal(&database, &development, 78).await;
    assert!(
        said.contains(".env: line 2") && !said.contains("hunter2"),
        "{said}"
    );
}

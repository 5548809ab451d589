//! Files that the configuration names and that cannot be used: one line at once, under the name of the variable, and nothing
//! is created. And a database file that is taken away while it is in use.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::support::{
    Kind, TestDatabase, TestServer, eventually,
    process::{TestProcess, run},
    reason,
};

fn fifo(path: PathBuf) -> PathBuf {
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    path
}

/// Both `config check` and `serve` refuse it in one line, which begins with the name of the variable; returns that of `serve`.
async fn refused(database: &TestDatabase, variables: &[(&str, &str)], variable: &str) -> String {
    let mut last = String::new();
    for arguments in [["config", "check"].as_slice(), &[]] {
        let output = run(database, variables, arguments).await;
        let said = String::from_utf8(output.stderr).unwrap();
        let code = output.status.code();
        // 78 before anything is started, by either; a start that fails later ends with 1.
        let beginning = match code {
            Some(78) => format!("{variable}: "),
            Some(1) if arguments.is_empty() => format!("countersign: {variable}: "),
            _ => panic!("{arguments:?}: {code:?} {said}"),
        };
        assert_eq!(said.trim_end().lines().count(), 1, "{arguments:?}: {said}");
        assert!(said.starts_with(&beginning), "{arguments:?}: {said}");
        last = said;
    }
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_not_regular_are_refused_at_once() {
    let database = TestDatabase::create(Kind::Sqlite).await;
    let folder = database.folder.path();
    let pipe = fifo(folder.join("pipe"));
    let link = folder.join("link");
    symlink(&pipe, &link).unwrap();
    for path in [pipe.as_path(), &link, Path::new("/dev/zero"), folder] {
        let path = path.to_str().unwrap();
        let database_url = format!("sqlite://{path}");
        for (variable, settings) in [
            (
                "COUNTERSIGN_DATABASE_URL",
                vec![("COUNTERSIGN_DATABASE_URL", database_url.as_str())],
            ),
            (
                "COUNTERSIGN_MASTER_KEYS_FILE",
                vec![
                    ("COUNTERSIGN_MASTER_KEYS", ""),
                    ("COUNTERSIGN_MASTER_KEYS_FILE", path),
                ],
            ),
            (
                "COUNTERSIGN_TLS_CERT_FILE",
                vec![
                    ("COUNTERSIGN_TLS", "on"),
                    ("COUNTERSIGN_TLS_CERT_FILE", path),
                    ("COUNTERSIGN_TLS_KEY_FILE", path),
                ],
            ),
            (
                "COUNTERSIGN_SMTP_CA_FILE",
                vec![
                    ("COUNTERSIGN_SMTP_URL", "smtps://localhost"),
                    ("COUNTERSIGN_SMTP_CA_FILE", path),
                    ("COUNTERSIGN_MAIL_FROM", "a@example.org"),
                ],
            ),
            (
                "COUNTERSIGN_TRUSTED_ISSUERS_FILE",
                vec![("COUNTERSIGN_TRUSTED_ISSUERS_FILE", path)],
            ),
            (
                "COUNTERSIGN_BREACHED_PASSWORDS_FILE",
                vec![("COUNTERSIGN_BREACHED_PASSWORDS_FILE", path)],
            ),
        ] {
            let said = refused(&database, &settings, variable).await;
            assert!(said.contains("not a regular file"), "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_file_a_template_and_an_env_file_that_are_pipes_are_refused_at_once() {
    let database = TestDatabase::create(Kind::Sqlite).await;
    let folder = database.folder.path();
    let key_file = fifo(folder.join("master.key"));
    let no_keys = [("COUNTERSIGN_MASTER_KEYS", "")];
    let said = refused(&database, &no_keys, "COUNTERSIGN_MASTER_KEYS").await;
    assert!(said.contains("a pipe (FIFO)"), "{said}");
    fs::remove_file(&key_file).unwrap();
    fs::create_dir(&key_file).unwrap();
    let said = refused(&database, &no_keys, "COUNTERSIGN_MASTER_KEYS").await;
    assert!(
        said.contains("a folder") && !said.contains("chmod"),
        "{said}"
    );

    let templates = folder.join("templates");
    fs::create_dir(&templates).unwrap();
    fifo(templates.join("password_reset.txt"));
    let settings = [("COUNTERSIGN_MAIL_TEMPLATES", templates.to_str().unwrap())];
    let said = refused(&database, &settings, "COUNTERSIGN_MAIL_TEMPLATES").await;
    assert!(said.contains("a pipe (FIFO)"), "{said}");

    let env = fifo(folder.join(".env"));
    let development = [("COUNTERSIGN_PROFILE", "development")];
    let said = refused(&database, &development, ".env").await;
    assert!(said.contains("a pipe (FIFO)"), "{said}");
    fs::remove_file(env).unwrap();
    assert!(
        !database.sqlite_path().exists(),
        "a refused start has created a database"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_with_files_that_cannot_be_used_creates_no_database() {
    let database = TestDatabase::create(Kind::Sqlite).await;
    let folder = database.folder.path();
    let key_file = folder.join("master.key");
    fs::write(&key_file, "no keys").unwrap();
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
    refused(
        &database,
        &[("COUNTERSIGN_MASTER_KEYS", "")],
        "COUNTERSIGN_MASTER_KEYS",
    )
    .await;
    let missing = folder.join("missing");
    let settings = [("COUNTERSIGN_MAIL_TEMPLATES", missing.to_str().unwrap())];
    refused(&database, &settings, "COUNTERSIGN_MAIL_TEMPLATES").await;
    let no_filter = folder.join("no filter");
    fs::rename(&key_file, &no_filter).unwrap();
    let variable = "COUNTERSIGN_BREACHED_PASSWORDS_FILE";
    let settings = [
        ("COUNTERSIGN_MASTER_KEYS", ""),
        (variable, no_filter.to_str().unwrap()),
    ];
    let said = refused(&database, &settings, variable).await;
    assert!(said.contains("no filter of breached passwords"), "{said}");
    assert!(!key_file.exists(), "a refused start has created keys");
    assert!(!database.sqlite_path().exists());

    let no_database = folder.join("text");
    fs::write(&no_database, "this is no database, but text of some length").unwrap();
    let url = format!("sqlite://{}", no_database.display());
    refused(
        &database,
        &[("COUNTERSIGN_DATABASE_URL", &url)],
        "COUNTERSIGN_DATABASE_URL",
    )
    .await;
    let below_a_file = format!("{url}/x.db");
    let settings = [("COUNTERSIGN_DATABASE_URL", below_a_file.as_str())];
    let said = refused(&database, &settings, "COUNTERSIGN_DATABASE_URL").await;
    assert!(!said.contains("File exists"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sqlite_file_with_a_second_name_is_refused() {
    let database = TestDatabase::create(Kind::Sqlite).await;
    let first = TestProcess::start(&database).await;
    let elsewhere = database.folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let alias = elsewhere.join("alias.db");
    fs::hard_link(database.sqlite_path(), &alias).unwrap();
    let alias_url = format!("sqlite://{}", alias.display());
    let settings = [("COUNTERSIGN_DATABASE_URL", alias_url.as_str())];
    let said = refused(&database, &settings, "COUNTERSIGN_DATABASE_URL").await;
    assert!(said.contains("hard links"), "{said}");
    // The first server goes on, and starts again once the other name is gone.
    first.signed_in("ada@example.org").await;
    first.kill().await;
    fs::remove_file(alias).unwrap();
    TestProcess::start(&database)
        .await
        .login("ada@example.org")
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sqlite_file_that_is_moved_or_replaced_is_an_outage_until_it_is_back() {
    let database = TestDatabase::create(Kind::Sqlite).await;
    let server = TestServer::start(&database).await;
    let tokens = server.signed_in("ada@example.org").await;
    let health = async || {
        let request = HealthCheckRequest {
            service: "countersign.auth.v1.AuthService".to_owned(),
        };
        let mut client = HealthClient::new(server.channel.clone());
        client.check(request).await.unwrap().into_inner().status()
    };
    let (path, moved) = (database.sqlite_path(), database.folder.path().join("moved"));
    for replaced in [false, true] {
        fs::rename(&path, &moved).unwrap();
        if replaced {
            fs::write(&path, "").unwrap();
        }
        eventually("the loss is noticed", async || {
            health().await == ServingStatus::NotServing
        })
        .await;
        assert_eq!(
            reason(server.login("ada@example.org").await),
            "DATABASE_UNAVAILABLE"
        );
        server.validate(&tokens.access_token).await.unwrap();
        fs::rename(&moved, &path).unwrap();
        eventually("the file is back", async || {
            health().await == ServingStatus::Serving
        })
        .await;
        server.login("ada@example.org").await.unwrap();
    }
}

//! `countersign backup`: a copy that is whole, whatever is written meanwhile.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::Output,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use crate::support::{Kind, TestDatabase, TestServer, on_both_databases, process::run};

async fn back_up(database: &TestDatabase, file: &str) -> Output {
    run(database, &[], &["backup", file]).await
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

on_both_databases! {
    async fn a_backup_under_writes_holds_everything_acknowledged_before(database: TestDatabase) {
        if database.kind == Kind::Postgres {
            let output = back_up(&database, "it's.dump").await;
            assert_eq!(output.status.code(), Some(1), "{}", said(&output));
            let line = String::from_utf8(output.stdout).unwrap();
            assert!(line.starts_with(r"pg_dump --format=custom --file='it'\''s.dump' 'postgres"), "{line}");
            assert!(!database.folder.path().join("it's.dump").exists());
            return;
        }
        let server = TestServer::start(&database).await;
        server.register("before@example.org").await.unwrap();
        let (over, written) = (AtomicBool::new(false), AtomicUsize::new(0));
        let write = async {
            while !over.load(Ordering::Acquire) {
                let n = written.fetch_add(1, Ordering::AcqRel);
                server.register(&format!("user{n}@example.org")).await.unwrap();
            }
        };
        let mut least = Vec::new();
        let copy = async {
            for n in 0..3 {
                while written.load(Ordering::Acquire) < 5 * (n + 1) {
                    tokio::task::yield_now().await;
                }
                // The last one counted may still be on its way.
                least.push(written.load(Ordering::Acquire));
                let output = back_up(&database, &format!("copy{n}.db")).await;
                assert_eq!(output.status.code(), Some(0), "{}", said(&output));
            }
            over.store(true, Ordering::Release);
        };
        tokio::join!(write, copy);
        server.stop().await;

        for (n, least) in least.into_iter().enumerate() {
            let file = database.folder.path().join(format!("copy{n}.db"));
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
            let restored = TestDatabase::create(Kind::Sqlite).await;
            fs::copy(&file, restored.sqlite_path()).unwrap();
            let server = TestServer::start(&restored).await;
            server.login("before@example.org").await.unwrap();
            let users = restored.count("users").await;
            assert!(users >= i64::try_from(least).unwrap(), "{users} users, {least} were acknowledged");
            assert_eq!(restored.count("pragma_integrity_check WHERE integrity_check = 'ok'").await, 1);
            server.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_replaces_no_file_and_creates_no_database() {
    let database = TestDatabase::create(Kind::Sqlite).await;
    let folder = database.folder.path().to_owned();
    let output = back_up(&database, "copy.db").await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("there is no database at"),
        "{}",
        said(&output)
    );
    assert!(!database.sqlite_path().exists() && !folder.join("copy.db").exists());

    TestServer::start(&database).await.stop().await;
    fs::write(folder.join("copy.db"), "something of value").unwrap();
    let output = back_up(&database, "copy.db").await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("exists already"),
        "{}",
        said(&output)
    );
    assert_eq!(
        fs::read_to_string(folder.join("copy.db")).unwrap(),
        "something of value"
    );

    let output = back_up(&database, "missing/copy.db").await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("missing/copy.db could not be written"),
        "{}",
        said(&output)
    );
}

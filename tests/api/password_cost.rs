//! What a login costs the server after the parameters of Argon2 were changed, and when memory runs out.

use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use countersign::{config::Config, passwords::HashingBackend, tokens::DerivedKeys};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tonic::Code;

use crate::support::{
    PASSWORD, TestDatabase, TestServer, eventually, failure, on_both_databases,
    process::{TestProcess, run},
    reason,
    server::{open_store, test_variables},
    web::get,
};

const WRONG: &str = "not the password of anyone";

/// Cheap and expensive parameters: 64 KiB of work for a hash, and 600 KiB.
const CHEAP: [(&str, &str); 2] = [
    ("COUNTERSIGN_ARGON2_MEMORY_KIB", "64"),
    ("COUNTERSIGN_ARGON2_ITERATIONS", "1"),
];
const EXPENSIVE: [(&str, &str); 2] = [
    ("COUNTERSIGN_ARGON2_MEMORY_KIB", "200"),
    ("COUNTERSIGN_ARGON2_ITERATIONS", "3"),
];
const CHEAP_WORK: u64 = 64;
const EXPENSIVE_WORK: u64 = 600;

/// What a failed login lacks at most: less than Argon2 can do at all.
const MISSING: u64 = 12;

/// The work that a login makes the server do, in KiB; it must fail.
async fn work_of_failed_login(server: &TestServer, email: &str, password: &str) -> u64 {
    let work = || server.core.service_metrics().hashing.work_kib;
    let before = work();
    assert_eq!(
        reason(server.login_as(email, password).await),
        "INVALID_CREDENTIALS"
    );
    work() - before
}

async fn assert_all_fail_at(server: &TestServer, emails: &[&str], work: u64) {
    for email in emails {
        let done = work_of_failed_login(server, email, WRONG).await;
        assert!(
            done <= work && work - done < MISSING,
            "{email}: {done} instead of {work}"
        );
    }
}

fn config(database: &TestDatabase) -> Config {
    Config::from_vars(test_variables(database, &[])).unwrap()
}

/// A hash as version 0.1 made it, by the `argon2` crate with the pepper as the secret.
fn hash_of_the_previous_version(database: &TestDatabase) -> String {
    let keys = DerivedKeys::derive(config(database).master_keys.load().unwrap().as_slice());
    let pepper = keys.all().next().unwrap().pepper.clone();
    let params = Params::new(64, 1, 1, Some(32)).unwrap();
    let argon2 =
        Argon2::new_with_secret(pepper.expose(), Algorithm::Argon2id, Version::V0x13, params);
    let (salt, mut hash) = ([9; 16], [0; 32]);
    argon2
        .unwrap()
        .hash_password_into(PASSWORD.as_bytes(), &salt, &mut hash)
        .unwrap();
    let [salt, hash] = [&salt[..], &hash].map(|bytes| STANDARD_NO_PAD.encode(bytes));
    format!("$argon2id$v=19$m=64,t=1,p=1,keyid=AQ${salt}${hash}")
}

on_both_databases! {
    async fn a_failed_login_costs_the_same_for_every_account_after_the_cost_was_raised(database: TestDatabase) {
        let server = TestServer::start_with(&database, &CHEAP).await;
        for email in ["old@example.org", "disabled@example.org"] {
            server.register(email).await.unwrap();
        }
        assert_all_fail_at(&server, &["old@example.org", "nobody@example.org"], CHEAP_WORK).await;
        server.stop().await;
        database.execute("UPDATE users SET disabled_at = 1 WHERE email = 'disabled@example.org'").await;

        let server = TestServer::start_with(&database, &EXPENSIVE).await;
        server.register("new@example.org").await.unwrap();
        let everyone = ["old@example.org", "new@example.org", "disabled@example.org", "nobody@example.org"];
        assert_all_fail_at(&server, &everyone, EXPENSIVE_WORK).await;
        server.login("old@example.org").await.unwrap();
        assert_all_fail_at(&server, &everyone, EXPENSIVE_WORK).await;
    }

    async fn a_failed_login_costs_the_same_for_every_account_after_the_cost_was_lowered(database: TestDatabase) {
        let server = TestServer::start_with(&database, &EXPENSIVE).await;
        server.register("old@example.org").await.unwrap();
        server.stop().await;

        let server = TestServer::start_with(&database, &CHEAP).await;
        server.register("new@example.org").await.unwrap();
        // From the first login on: the list of parameters is read before the server listens.
        let everyone = ["nobody@example.org", "new@example.org", "old@example.org"];
        assert_all_fail_at(&server, &everyone, EXPENSIVE_WORK).await;
        let before = server.core.service_metrics().hashing.work_kib;
        server.login("new@example.org").await.unwrap();
        assert_eq!(server.core.service_metrics().hashing.work_kib - before, CHEAP_WORK, "a right password costs its hash");
    }

    async fn parameters_that_another_replica_uses_count_once_they_are_seen(database: TestDatabase) {
        let cheap = TestServer::start_with(&database, &CHEAP).await;
        let expensive = cheap.replica(&EXPENSIVE).await;
        expensive.register("ada@example.org").await.unwrap();
        assert_all_fail_at(&cheap, &["ada@example.org", "nobody@example.org"], EXPENSIVE_WORK).await;
    }

    async fn the_parameters_of_a_database_from_an_earlier_version_are_found(database: TestDatabase) {
        let server = TestServer::start_with(&database, &EXPENSIVE).await;
        server.register("ada@example.org").await.unwrap();
        server.stop().await;
        database.execute("DELETE FROM password_parameters; UPDATE users SET email_identity = NULL").await;
        let server = TestServer::start_with(&database, &CHEAP).await;
        assert_all_fail_at(&server, &["nobody@example.org", "ada@example.org"], EXPENSIVE_WORK).await;
    }

    async fn parameters_that_no_user_has_any_more_are_forgotten(database: TestDatabase) {
        let server = TestServer::start_with(&database, &EXPENSIVE).await;
        server.register("ada@example.org").await.unwrap();
        server.stop().await;
        let store = open_store(&database, &[]);
        let unused = store.forget_unused_password_parameters("$argon2id$v=19$m=64,t=1,p=1").await;
        assert_eq!(unused.unwrap(), 0, "ada has them");
        let server = TestServer::start_with(&database, &CHEAP).await;
        server.login("ada@example.org").await.unwrap();
        server.stop().await;
        let unused = store.forget_unused_password_parameters("$argon2id$v=19$m=64,t=1,p=1").await;
        assert_eq!(unused.unwrap(), 1);
        let server = TestServer::start_with(&database, &CHEAP).await;
        assert_all_fail_at(&server, &["nobody@example.org", "ada@example.org"], CHEAP_WORK).await;
    }

    async fn a_hash_of_the_previous_version_verifies_and_keeps_its_pepper(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        server.register("ada@example.org").await.unwrap();
        let old = hash_of_the_previous_version(&database);
        database.execute(&format!("UPDATE users SET password_hash = '{old}'")).await;
        server.login("ada@example.org").await.unwrap();
        assert_eq!(database.count(&format!("users WHERE password_hash = '{old}'")).await, 1);
        assert_eq!(reason(server.login_as("ada@example.org", WRONG).await), "INVALID_CREDENTIALS");
    }

    async fn a_hash_whose_pepper_is_not_configured_is_reported_as_unavailable(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        server.register("ada@example.org").await.unwrap();
        database.execute("UPDATE users SET password_hash = replace(password_hash, 'keyid=AQ', 'keyid=Bw')").await;
        for password in [PASSWORD, WRONG] {
            assert_eq!(reason(server.login_as("ada@example.org", password).await), "DATABASE_UNAVAILABLE");
        }
    }

    async fn without_memory_for_a_hash_a_login_is_overloaded_and_the_server_continues(database: TestDatabase) {
        let large = [
            ("COUNTERSIGN_ARGON2_MEMORY_KIB", "1048576"),
            ("COUNTERSIGN_ARGON2_ITERATIONS", "1"),
            ("COUNTERSIGN_HASHING_WORKERS", "1"),
        ];
        let server = TestProcess::start_with(&database, &large).await;
        let pid = server.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).unwrap();
        let size = std::fs::read_to_string(format!("/proc/{}/statm", pid.as_raw_nonzero())).unwrap();
        let pages: u64 = size.split(' ').next().unwrap().parse().unwrap();
        // Half of what the hash takes; less would fit into what the allocator has reserved already.
        let most = pages * 4096 + 512 * 1024 * 1024;
        let limit = |most| Rlimit { current: most, maximum: None };
        let unlimited = prlimit(Some(pid), Resource::As, limit(Some(most))).unwrap();
        for _ in 0..3 {
            let status = server.login("ada@example.org").await.unwrap_err();
            let failure = failure(&status);
            assert_eq!((failure.code, failure.reason.as_str()), (Code::Unavailable, "OVERLOADED"));
            let delay = failure.details.retry_info().unwrap().retry_delay.unwrap();
            assert_eq!(delay, Duration::from_secs(1));
        }
        prlimit(Some(pid), Resource::As, unlimited).unwrap();
        eventually("hashing goes on", async || {
            server.login("ada@example.org").await.is_err_and(|status| reason::<()>(Err(status)) == "INVALID_CREDENTIALS")
        }).await;
        server.kill().await;
    }

    async fn the_startup_line_names_the_argon2_implementation(database: TestDatabase) {
        let backend = HashingBackend::detect().name();
        let version = run(&database, &[], &["--version"]).await;
        let version = String::from_utf8(version.stdout).unwrap();
        assert!(version.contains(&format!("argon2: {backend}\n")), "{version}");
        let (server, recording) = TestProcess::start_recorded(&database, &[]).await;
        let metrics = get(server.http(), "/metrics").await.body;
        let metric = format!("countersign_hashing_backend{{backend=\"{backend}\"}} 1\n");
        assert!(metrics.contains(&metric), "{metrics}");
        server.kill().await;
        let (output, _) = recording.finish().await;
        assert!(output.contains(&format!(" argon2={backend}")), "{output}");
    }
}

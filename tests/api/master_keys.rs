//! Master keys that differ between replicas or are mistyped: what cannot be judged is not called invalid.

use std::time::Duration;

use countersign::grpc::pb::reauthenticate_request::Proof as Again;

use crate::{
    keys::{SETTINGS, kid, rotate},
    support::{
        Kind, TestDatabase, TestServer, eventually, factors::code_of, on_both_databases,
        process::run, reason, server::MASTER_KEYS,
    },
};

const ADA: &str = "ada@example.org";
const BOB: &str = "bob@example.org";
const SECOND: &str = "v2://///////////////////////////////////////38=";
const UNAVAILABLE: &str = "DATABASE_UNAVAILABLE";

on_both_databases! {
    async fn keys_rewrap_with_a_mistyped_key_fails_and_seals_nothing(database: TestDatabase) {
        TestServer::start(&database).await.stop().await;
        let mistyped = SECOND.replacen("v2", "v1", 1);
        let both = format!("{SECOND},{mistyped}");
        for keys in [mistyped.as_str(), &both] {
            let output = run(&database, &[("COUNTERSIGN_MASTER_KEYS", keys)], &["keys", "rewrap"]).await;
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains("v1 is not the one"), "{said}");
        }
        assert_eq!(database.count("signing_keys WHERE sealed_by = 1").await, 1);
    }

    async fn no_command_changes_anything_with_a_mistyped_master_key(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        server.register(ADA).await.unwrap();
        server.stop().await;
        let account = run(&database, &[], &["service-accounts", "create", "orders"]).await;
        assert_eq!(account.status.code(), Some(0), "{account:?}");
        let mistyped = SECOND.replacen("v2", "v1", 1);
        for arguments in [
            &["users", "create", BOB][..],
            &["users", "delete", ADA],
            &["users", "unlock", ADA],
            &["service-keys", "create", "orders", "--expires-in", "30d"],
            &["keys", "rotate"],
        ] {
            let output = run(&database, &[("COUNTERSIGN_MASTER_KEYS", &mistyped)], arguments).await;
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
            assert!(said.contains("v1 is not the one"), "{arguments:?}: {said}");
            assert!(output.stdout.is_empty(), "{arguments:?}");
        }
        assert_eq!(database.count("users WHERE email_key = 'ada@example.org'").await, 1);
        for nothing in ["service_keys", "users WHERE email_key <> 'ada@example.org'"] {
            assert_eq!(database.count(nothing).await, 0, "{nothing}");
        }
        assert_eq!(database.count("signing_keys").await, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_without_the_new_master_key_calls_no_token_or_password_invalid() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let old = TestServer::start_with(&database, &SETTINGS).await;
    let before = old.signed_in(ADA).await;
    let both = format!("{SECOND},{MASTER_KEYS}");
    let mut settings = SETTINGS.to_vec();
    settings.push(("COUNTERSIGN_MASTER_KEYS", both.as_str()));
    let new = old.replica(&settings).await;
    let tokens = new.refresh(&before.refresh_token).await.unwrap();
    eventually(
        "the old replica knows of the key that it lacks",
        async || reason(old.refresh(&tokens.refresh_token).await) == UNAVAILABLE,
    )
    .await;
    assert_eq!(reason(old.logout(&tokens.refresh_token).await), UNAVAILABLE);
    // What is no token of any key is invalid all the same.
    assert_eq!(reason(old.refresh("csr_").await), "REFRESH_TOKEN_INVALID");

    new.register(BOB).await.unwrap();
    assert_eq!(reason(old.login(BOB).await), UNAVAILABLE);

    // Nor an enrollment, or the code of an app.
    let bob = new.login(BOB).await.unwrap();
    let begun = new.begin_totp(&bob.access_token).await.unwrap();
    let code = code_of(&begun.secret, new.clock.now());
    let confirmed = old.confirm_totp(&bob.access_token, &begun.enrollment_token, &code);
    assert_eq!(reason(confirmed.await), UNAVAILABLE);
    let confirmed = new.confirm_totp(&bob.access_token, &begun.enrollment_token, &code);
    confirmed.await.unwrap();
    let again = Again::TotpCode(code_of(
        &begun.secret,
        new.clock.now() + Duration::from_secs(30),
    ));
    let renewed = old.reauthenticate(&bob.access_token, "", again);
    assert_eq!(reason(renewed.await), UNAVAILABLE);

    let next = rotate(&new, false).await;
    old.clock.advance(Duration::from_secs(120));
    let mut access_token = String::new();
    eventually("the next key signs", async || {
        access_token = new.login(ADA).await.unwrap().access_token;
        kid(&access_token) == next.kid
    })
    .await;
    new.validate(&access_token).await.unwrap();
    eventually("the old replica has read of the next key", async || {
        reason(old.validate(&access_token).await) == UNAVAILABLE
    })
    .await;
    old.validate(&before.access_token).await.unwrap();
}

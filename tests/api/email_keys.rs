//! One mailbox, one account: however its address is spelt, and whatever an earlier version stored.

use std::collections::BTreeSet;

use crate::support::{PASSWORD, TestDatabase, TestServer, on_both_databases, process::run, reason};

/// Addresses of one mailbox each.
const MAILBOXES: [&[&str]; 4] = [
    &[
        "ada@b\u{fc}cher.example",
        "ADA@B\u{dc}CHER.EXAMPLE",
        "ada@xn--bcher-kva.example",
        " ada@bu\u{308}cher.example\n",
    ],
    &[
        "stra\u{df}e@example.org",
        "STRASSE@example.org",
        "STRA\u{1e9e}E@EXAMPLE.ORG",
    ],
    &[
        "\u{3bf}\u{3b4}\u{3cc}\u{3c2}@example.org",
        "\u{39f}\u{394}\u{38c}\u{3a3}@example.org",
    ],
    &["of\u{fb01}ce@example.org", "OFFICE@Example.ORG"],
];

/// Undoes what this version does: users have the key of the version before, and no other.
async fn downgrade(database: &TestDatabase) {
    database
        .execute("UPDATE users SET email_identity = NULL")
        .await;
}

/// A user as the version before would have stored it: under a key of its own.
async fn insert_old_user(database: &TestDatabase, like: &str, id: &str, email: &str, key: &str) {
    let sql = format!(
        "INSERT INTO users (id, email, email_key, display_name, password_hash, roles, created_at, updated_at)
         SELECT '{id}', '{email}', '{key}', 'old', password_hash, roles, created_at, updated_at FROM users
         WHERE email_key = '{like}'"
    );
    database.execute(&sql).await;
}

async fn user_of(server: &TestServer, email: &str) -> String {
    let tokens = server.login_as(email, PASSWORD).await.unwrap();
    server.validate(&tokens.access_token).await.unwrap().user_id
}

on_both_databases! {
    async fn one_mailbox_has_one_account_however_its_address_is_spelt(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        for spellings in MAILBOXES {
            let user = server.register(spellings[0]).await.unwrap();
            assert_eq!(user.email, spellings[0]);
            for spelling in spellings {
                assert_eq!(reason(server.register(spelling).await), "EMAIL_TAKEN", "{spelling:?}");
                assert_eq!(user_of(&server, spelling).await, user.user_id, "{spelling:?}");
            }
        }
    }

    async fn white_space_around_an_address_is_removed(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let user = server.register("\t ada@example.org \n").await.unwrap();
        assert_eq!(user.email, "ada@example.org");
        assert_eq!(reason(server.register("ada@example.org").await), "EMAIL_TAKEN");
        assert_eq!(reason(server.register("ada @example.org").await), "INVALID_FIELD");
    }

    async fn spellings_of_one_mailbox_share_one_count_of_failures(database: TestDatabase) {
        let limit = [("COUNTERSIGN_ACCOUNT_FAILURE_LIMIT", "3")];
        let server = TestServer::start_with(&database, &limit).await;
        for spelling in MAILBOXES[0].iter().take(3) {
            assert_eq!(reason(server.login_as(spelling, "not it").await), "INVALID_CREDENTIALS");
        }
        assert_eq!(reason(server.login_as(MAILBOXES[0][3], "not it").await), "ACCOUNT_THROTTLED");
    }

    async fn users_of_the_previous_version_are_found_before_and_after_the_upgrade(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let mut users = Vec::new();
        for spellings in MAILBOXES {
            users.push(server.register(spellings[0]).await.unwrap().user_id);
        }
        downgrade(&database).await;
        for (spellings, user) in MAILBOXES.iter().zip(&users) {
            assert_eq!(&user_of(&server, spellings[0]).await, user, "by the old key");
        }
        server.stop().await;
        let migrated = run(&database, &[], &["migrate"]).await;
        let said = String::from_utf8(migrated.stdout).unwrap();
        assert!(said.contains("4 e-mail keys of users were filled in after the upgrade"), "{said}");
        let server = TestServer::start(&database).await;
        for (spellings, user) in MAILBOXES.iter().zip(&users) {
            for spelling in *spellings {
                assert_eq!(&user_of(&server, spelling).await, user, "{spelling:?}");
            }
        }
    }

    async fn every_user_gets_an_email_key_across_several_batches(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        server.register("first@example.org").await.unwrap();
        server.stop().await;
        downgrade(&database).await;
        for n in 0..510 {
            let (id, email) = (format!("00000000-0000-7000-8000-{n:012}"), format!("user{n}@example.org"));
            insert_old_user(&database, "first@example.org", &id, &email, &email).await;
        }
        let server = TestServer::start(&database).await;
        assert_eq!(database.count("users WHERE email_identity = email_key").await, 511);
        server.login("user509@example.org").await.unwrap();
    }

    async fn two_old_users_of_one_mailbox_are_reported_and_both_still_log_in(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let first = server.register("strasse@example.org").await.unwrap().user_id;
        server.stop().await;
        downgrade(&database).await;
        let second = "00000000-0000-7000-8000-000000000002";
        let third = "00000000-0000-7000-8000-000000000003";
        insert_old_user(&database, "strasse@example.org", second, "stra\u{df}e@example.org", "stra\u{df}e@example.org").await;
        insert_old_user(&database, "strasse@example.org", third, "\u{17f}trasse@b\u{fc}cher.example", "strasse@b\u{fc}cher.example").await;
        let mut reports = BTreeSet::new();
        // The conflict stays, and is reported each time.
        for _ in 0..2 {
            let migrated = run(&database, &[], &["migrate"]).await;
            assert_eq!(migrated.status.code(), Some(0));
            let said = String::from_utf8(migrated.stdout).unwrap();
            assert!(!said.contains('@'), "{said}");
            let report = said.lines().filter(|line| line.contains("one mailbox")).collect::<Vec<_>>().join("\n");
            reports.insert(report);
        }
        let expected = format!("users {first} and {second} have one mailbox");
        assert!(reports.len() == 1 && reports.iter().all(|report| report.contains(&expected)), "{reports:?}");

        let server = TestServer::start(&database).await;
        assert_eq!(user_of(&server, "strasse@example.org").await, first);
        assert_eq!(user_of(&server, "STRASSE@example.org").await, first);
        assert_eq!(user_of(&server, "stra\u{df}e@example.org").await, second);
        assert_eq!(user_of(&server, "strasse@xn--bcher-kva.example").await, third);
        assert_eq!(reason(server.register("stra\u{df}e@example.org").await), "EMAIL_TAKEN");
        assert_eq!(database.count("users").await, 3);
    }
}

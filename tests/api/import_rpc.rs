//! `AdminService.ImportUsers`: the same import as a stream of messages.

use std::time::Duration;

use countersign::grpc::pb::{ImportUsersRequest, ImportUsersResponse, TokenPair};
use prost_types::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::{Stream, iter, wrappers::ReceiverStream};
use tonic::{Code, Status};

use crate::support::{
    TestDatabase, TestServer, eventually, on_both_databases, operator::bearing, reason,
};

const PASSWORD: &str = "correct horse battery staple";
/// A hash of it.
const BCRYPT: &str = "$2b$04$9NKIZ4axYpeEiq3o56T8hehibNiGT.b/n618oAW4HPZfQE9eojp9u";
const ADMIN: &str = "root@example.org";

fn user(email: &str) -> ImportUsersRequest {
    ImportUsersRequest {
        email: email.to_owned(),
        password_hash: BCRYPT.to_owned(),
        ..ImportUsersRequest::default()
    }
}

async fn import(
    server: &TestServer,
    access_token: &str,
    users: impl Stream<Item = ImportUsersRequest> + Send + 'static,
) -> Result<ImportUsersResponse, Status> {
    let request = bearing(access_token, users);
    let response = server.admin().import_users(request).await?;
    Ok(response.into_inner())
}

/// Users that are written at once.
const BATCH: i64 = 1_000;

async fn imported(database: &TestDatabase) -> i64 {
    database.count("users WHERE import_mark IS NOT NULL").await
}

/// Sends one batch, and waits until it is written.
async fn fill_batch(users: &mpsc::Sender<ImportUsersRequest>, database: &TestDatabase) {
    for n in 0..BATCH {
        users
            .send(user(&format!("u{n}@example.org")))
            .await
            .unwrap();
    }
    eventually("a batch is written", async || {
        imported(database).await == BATCH
    })
    .await;
}

async fn administrator(server: &TestServer) -> TokenPair {
    server.signed_in_as(ADMIN, "admin").await
}

fn counts(response: &ImportUsersResponse) -> (i64, i64, i64) {
    (
        response.imported_count,
        response.skipped_count,
        response.refused_count,
    )
}

on_both_databases! {
    async fn messages_are_imported_skipped_or_refused_by_their_number(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let admin = administrator(&server).await;
        let users = || vec![
            ImportUsersRequest {
                display_name: "Ada".to_owned(),
                email_verified: true,
                roles: vec!["editor".to_owned()],
                create_time: Some(Timestamp { seconds: 1_580_459_400, nanos: 0 }),
                ..user("ada@example.org")
            },
            ImportUsersRequest { disabled: true, ..user("off@example.org") },
            ImportUsersRequest { password_hash: "$rot13$abc".to_owned(), ..user("x@example.org") },
            user("no address"),
            user(ADMIN),
            ImportUsersRequest { password_secret: vec![1, 2, 3], password_hash: String::new(), ..user("y@example.org") },
        ];
        for expected in [(2, 0, 4), (0, 2, 4)] {
            let response = import(&server, &admin.access_token, iter(users())).await.unwrap();
            assert_eq!(counts(&response), expected);
            let refusals: Vec<_> = response.refusals.iter().map(|one| (one.message_number, one.reason.as_str())).collect();
            assert_eq!(refusals, [(3, "HASH_UNKNOWN"), (4, "INVALID_FIELD"), (5, "EMAIL_TAKEN"), (6, "INVALID_FIELD")]);
            assert!(response.refusals.iter().all(|one| !one.description.contains('@')));
        }
        let tokens = server.login_as("ada@example.org", PASSWORD).await.unwrap();
        assert_eq!(server.validate(&tokens.access_token).await.unwrap().roles, ["editor"]);
        assert_eq!(reason(server.login_as("off@example.org", PASSWORD).await), "INVALID_CREDENTIALS");
        let event = "audit_events WHERE kind = 'users_imported' AND actor_id IS NOT NULL";
        assert_eq!(database.count(event).await, 1);
        assert_eq!(counts(&import(&server, &admin.access_token, iter([])).await.unwrap()), (0, 0, 0));
    }

    async fn only_an_administrator_imports_and_no_longer_than_being_one(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let nobody = server.signed_in("nobody@example.org").await;
        for (token, expected) in [("", "TOKEN_MISSING"), (nobody.access_token.as_str(), "INSUFFICIENT_ROLE")] {
            let refused = import(&server, token, iter([user("ada@example.org")])).await;
            assert_eq!(reason(refused), expected);
        }
        let admin = administrator(&server).await;
        let (users, stream) = mpsc::channel(1);
        let stream = ReceiverStream::new(stream);
        let call = import(&server, &admin.access_token, stream);
        let rest = async {
            fill_batch(&users, &database).await;
            database.execute("UPDATE users SET roles = ''").await;
            users.send(user("ada@example.org")).await.unwrap();
            drop(users);
        };
        let (refused, ()) = tokio::join!(call, rest);
        assert_eq!(reason(refused), "INSUFFICIENT_ROLE");
        assert_eq!(imported(&database).await, BATCH);
    }

    async fn an_import_does_not_outlast_its_access_token(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        for expected in ["TOKEN_EXPIRED", "TOKEN_REVOKED"] {
            database.execute("DELETE FROM users").await;
            let admin = administrator(&server).await;
            let (users, stream) = mpsc::channel(1);
            let call = import(&server, &admin.access_token, ReceiverStream::new(stream));
            let rest = async {
                fill_batch(&users, &database).await;
                match expected {
                    "TOKEN_EXPIRED" => server.clock.advance(Duration::from_secs(3_600)),
                    _ => server.logout(&admin.refresh_token).await.unwrap(),
                }
                users.send(user("ada@example.org")).await.unwrap();
                drop(users);
            };
            let (refused, ()) = tokio::join!(call, rest);
            assert_eq!(reason(refused), expected);
            assert_eq!(imported(&database).await, BATCH);
        }
    }

    async fn an_invalid_time_is_refused_and_a_role_that_gives_access_to_countersign_is_audited(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let admin = administrator(&server).await;
        let at = |seconds, nanos| ImportUsersRequest {
            create_time: Some(Timestamp { seconds, nanos }),
            ..user("x@example.org")
        };
        let users = vec![
            at(i64::MAX, 0), at(0, -1), at(0, 1_000_000_000), at(-1, 0),
            ImportUsersRequest { roles: vec!["admin".to_owned()], ..user("eve@example.org") },
            ImportUsersRequest { roles: vec!["editor".to_owned()], ..user("ada@example.org") },
        ];
        let response = import(&server, &admin.access_token, iter(users)).await.unwrap();
        assert_eq!(counts(&response), (2, 0, 4));
        for refusal in &response.refusals {
            assert_eq!(refusal.reason, "INVALID_FIELD");
            assert!(refusal.description.starts_with("create_time: "), "{}", refusal.description);
        }
        let eve = server.login_as("eve@example.org", PASSWORD).await.unwrap();
        let eve = server.validate(&eve.access_token).await.unwrap().user_id;
        let root = server.validate(&admin.access_token).await.unwrap().user_id;
        let events = server.audit_events(&admin.access_token, "kind = user_roles_changed").await;
        let [event] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!((&event.subject_id, &event.actor_id), (&eve, &root));
        let details: Value = serde_json::from_str(&event.details_json).unwrap();
        assert_eq!(details, json!({"roles_before": [], "roles": ["admin"]}));
    }

    async fn a_large_message_a_silent_stream_and_a_second_stream_are_refused(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[("COUNTERSIGN_REQUEST_TIMEOUT", "15s")]).await;
        let admin = administrator(&server).await;
        let large = ImportUsersRequest { display_name: "x".repeat(70_000), ..user("ada@example.org") };
        let refused = import(&server, &admin.access_token, iter([large])).await.unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange);
        let (users, stream) = mpsc::channel(1);
        let silent = import(&server, &admin.access_token, ReceiverStream::new(stream));
        let other = async {
            // Then the first stream is known to hold the place.
            fill_batch(&users, &database).await;
            let second = import(&server, &admin.access_token, iter([])).await;
            assert_eq!(reason(second), "RATE_LIMITED");
        };
        let (silent, ()) = tokio::join!(silent, other);
        assert_eq!(silent.unwrap_err().code(), Code::DeadlineExceeded);
        drop(users);
        // The place is free again.
        let response = import(&server, &admin.access_token, iter([user("ada@example.org")])).await.unwrap();
        assert_eq!(counts(&response), (1, 0, 0));
    }

    async fn a_stream_larger_than_the_request_memory_is_imported_and_at_most_1000_refusals_are_listed(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[("COUNTERSIGN_MAX_REQUEST_MEMORY", "1048576")]).await;
        let admin = administrator(&server).await;
        let users = (0..3_000).map(|n| ImportUsersRequest {
            // The address of every second one is none.
            roles: vec!["editor".to_owned(); 60],
            ..user(&if n % 2 == 0 { format!("u{n}@example.org") } else { format!("u{n}") })
        });
        let response = import(&server, &admin.access_token, iter(users)).await.unwrap();
        assert_eq!(counts(&response), (1_500, 0, 1_500));
        assert_eq!(response.refusals.len(), 1_000);
        assert_eq!(response.refusals[999].message_number, 2_000);
    }
}

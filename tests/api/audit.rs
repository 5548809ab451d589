//! The audit trail: what is in it, how it is listed, and that an export misses nothing.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use countersign::{clock::Clock, grpc::pb::AuditEvent};
use futures_util::future::join_all;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::support::{
    Kind, PASSWORD, PATIENCE, TestDatabase, TestServer,
    audit_events::{exported, kinds},
    eventually, failure,
    guesses::{WRONG, delays_within, guess_at_once},
    on_both_databases,
    process::{run, spawn},
    reason,
};

const ADA: &str = "ada@example.org";
const ROOT: &str = "root@example.org";

/// How many attempts the events stand for.
fn attempts(events: &[AuditEvent]) -> i64 {
    let count = |event: &AuditEvent| {
        let details: Value = serde_json::from_str(&event.details_json).unwrap();
        details["count"].as_i64().unwrap()
    };
    events.iter().map(count).sum()
}

/// Fails unless the event meets the published schema of its kind and version.
pub fn assert_valid(event: &Value) {
    let (kind, version) = (event["kind"].as_str().unwrap(), &event["version"]);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/audit-schema");
    let schema = fs::read_to_string(folder.join(format!("{kind}.v{version}.json"))).unwrap();
    let schema = serde_json::from_str(&schema).unwrap();
    let options = jsonschema::options().should_validate_formats(true);
    let validator = options.build(&schema).unwrap();
    if let Err(error) = validator.validate(event) {
        panic!("{event}: {error}");
    }
}

on_both_databases! {
    async fn a_login_leaves_one_event_with_user_session_address_and_request(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let root = server.signed_in_as(ROOT, "admin").await;
        let ada = server.signed_in(ADA).await;
        let user_id = server.validate(&ada.access_token).await.unwrap().user_id;
        let filter = format!("kind = logged_in AND subject_id = {user_id}");
        let events = server.audit_events(&root.access_token, &filter).await;
        let [event] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!(event.session_id, ada.session_id);
        assert_eq!((event.client_ip.as_str(), event.actor_id.as_str()), ("127.0.0.1", ""));
        assert_eq!(event.details_json, r#"{"new_device":true}"#);
        assert_eq!(event.event_time.unwrap().seconds, server.clock.now().seconds());
        assert!(!event.request_id.is_empty());
    }

    async fn fifty_guesses_at_once_are_audited_as_fifty(database: TestDatabase, clock: Clock) {
        let limit = ("COUNTERSIGN_ACCOUNT_FAILURE_LIMIT", "10");
        let server = TestServer::start_at(&database, &[limit], clock).await;
        let root = server.signed_in_as(ROOT, "admin").await.access_token;
        let user = server.register(ADA).await.unwrap();
        let start = server.now();
        let guesses = guess_at_once(std::slice::from_ref(&server), ADA, 50).await;
        let most = i64::try_from(10 + delays_within(server.now().since(start))).unwrap();
        let [judged, refused, unanswered] = [guesses.judged, guesses.delays.len(), guesses.unanswered]
            .map(|count| i64::try_from(count).unwrap());
        assert!(judged <= most && judged + unanswered >= 10, "{judged} judged, {unanswered} without an answer");
        // What got no answer may have been counted or not.
        for (kind, least) in [("login_failed", judged), ("login_throttled", refused)] {
            let filter = format!("kind = {kind} AND subject_id = {}", user.user_id);
            eventually("the refusals are written", async || {
                let written = attempts(&server.audit_events(&root, &filter).await);
                (least..=least + unanswered).contains(&written)
            }).await;
        }
        server.login_as("nobody@example.org", WRONG).await.unwrap_err();
        eventually("a guess at an unknown address is written", async || {
            let events = server.audit_events(&root, "kind = login_failed").await;
            events.iter().any(|event| event.subject_id.is_empty())
        }).await;
    }

    async fn refusals_that_wait_are_written_when_the_server_stops(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        server.register(ADA).await.unwrap();
        server.login_as(ADA, WRONG).await.unwrap_err();
        server.stop().await;
        assert_eq!(database.count("audit_events WHERE kind = 'login_failed'").await, 1);
    }

    async fn events_are_listed_from_the_newest_in_pages_by_a_filter(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let root = server.signed_in_as(ROOT, "admin").await.access_token;
        let start = server.clock.now();
        for _ in 0..5 {
            server.clock.advance(Duration::from_secs(60));
            server.register(&format!("user{}@example.org", server.clock.now().seconds())).await.unwrap();
        }
        let all = server.audit_events(&root, "").await;
        assert_eq!(all.len(), 7);
        assert!(all.is_sorted_by_key(|event| std::cmp::Reverse(event.event_time.unwrap().seconds)));
        let mut paged = Vec::new();
        let (mut token, filter) = (String::new(), "kind = user_registered");
        loop {
            let page = server.audit_page(&root, filter, 2, &token).await.unwrap();
            assert!(page.audit_events.len() <= 2);
            paged.extend(page.audit_events);
            token = page.next_page_token;
            if token.is_empty() { break; }
        }
        let expected: Vec<_> = all.iter().filter(|event| event.kind == "user_registered").cloned().collect();
        assert_eq!(paged, expected);
        let ids = |events: Vec<AuditEvent>| events.into_iter().map(|event| event.event_id).collect::<BTreeSet<_>>();
        let third = countersign::clock::Timestamp::from_seconds(start.seconds() + 180);
        let times = format!("event_time >= {third} AND event_time < 2100-01-01T00:00:00Z");
        assert_eq!(server.audit_events(&root, &times).await.len(), 3);
        assert_eq!(server.audit_events(&root, &format!("event_time > {third}")).await.len(), 2);
        let request = all[0].request_id.clone();
        let by_request = server.audit_events(&root, &format!("request_id = {request:?}")).await;
        assert_eq!(ids(by_request), BTreeSet::from([all[0].event_id.clone()]));
        for same in ["127.0.0.1", "::ffff:127.0.0.1", "::ffff:7f00:1"] {
            assert!(server.audit_events(&root, &format!("client_ip != {same}")).await.is_empty(), "{same}");
        }
        assert!(server.audit_events(&root, "client_ip = ::1").await.is_empty());
        assert_eq!(server.audit_events(&root, "(kind != logged_in) AND client_ip = 127.0.0.1").await.len(), 6);
    }

    async fn a_forged_page_token_and_a_bad_filter_are_invalid_fields(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let root = server.signed_in_as(ROOT, "admin").await.access_token;
        let token = server.audit_page(&root, "", 1, "").await.unwrap().next_page_token;
        server.audit_page(&root, "", 1, &token).await.unwrap();
        let mut forged = token.clone();
        forged.replace_range(10..11, if &token[10..11] == "A" { "B" } else { "A" });
        let users_token = {
            server.register(ADA).await.unwrap();
            server.user_page(&root, "", 1, "").await.unwrap().next_page_token
        };
        for (filter, token, field) in [
            ("", forged.as_str(), "page_token"),
            ("", users_token.as_str(), "page_token"),
            ("", "AAAAAAAAAAAAAAAAAAAAAA", "page_token"),
            ("kind = logged_in", token.as_str(), "page_token"),
            ("kind = logged_in OR kind = logged_out", "", "filter"),
            ("secret = x", "", "filter"),
            ("request_id = \"a\0\"", "", "filter"),
            ("kind = a\u{7f}", "", "filter"),
        ] {
            let failure = failure(&server.audit_page(&root, filter, 1, token).await.unwrap_err());
            assert_eq!(failure.reason, "INVALID_FIELD", "{filter} {token}");
            assert_eq!(failure.details.bad_request().unwrap().field_violations[0].field, field);
        }
        let ada = server.login(ADA).await.unwrap();
        assert_eq!(reason(server.audit_page(&ada.access_token, "", 1, "").await), "INSUFFICIENT_ROLE");
    }

    async fn an_export_resumes_at_its_cursor_and_every_line_meets_its_schema(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        // Events of one moment are in no order.
        server.register(ADA).await.unwrap();
        server.clock.advance(Duration::from_secs(1));
        let ada = server.login(ADA).await.unwrap();
        server.clock.advance(Duration::from_secs(1));
        server.login_as(ADA, WRONG).await.unwrap_err();
        eventually("the refusal is written", async || {
            database.count("audit_events WHERE kind = 'login_failed'").await == 1
        }).await;
        let first = exported(&database, None).await;
        assert_eq!(kinds(&first), ["user_registered", "logged_in", "login_failed"]);
        first.iter().for_each(assert_valid);
        let text = format!("{first:?}");
        assert!(!text.contains('@') && !text.contains(PASSWORD) && !text.contains("csr_"), "{text}");
        let cursor = first[2]["cursor"].as_str().unwrap();
        assert!(exported(&database, Some(cursor)).await.is_empty());
        server.logout(&ada.refresh_token).await.unwrap();
        assert_eq!(kinds(&exported(&database, Some(cursor)).await), ["logged_out"]);
        assert_eq!(exported(&database, None).await.len(), 4);
        for bad in ["", "csa_", "csa_AAAA", "x"] {
            let output = run(&database, &[], &["audit", "export", "--cursor", bad]).await;
            assert_eq!(output.status.code(), Some(1), "{bad:?}");
        }
    }

    async fn a_following_export_prints_events_while_they_happen(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        server.register(ADA).await.unwrap();
        let mut export = spawn(&database, &["audit", "export", "--follow"]);
        let mut lines = BufReader::new(export.stdout.take().unwrap()).lines();
        let mut seen = BTreeSet::new();
        for expected in ["user_registered", "logged_in", "logged_in"] {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time");
            let event: Value = serde_json::from_str(&line.unwrap().unwrap()).unwrap();
            assert_eq!(event["kind"], expected);
            seen.insert(event["id"].to_string());
            server.login(ADA).await.unwrap();
        }
        assert_eq!(seen.len(), 3, "an event was printed twice");
        export.kill().await.unwrap();
    }

    async fn export_with_follow_ends_when_a_backup_is_restored(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        server.register(ADA).await.unwrap();
        let mut export = spawn(&database, &["audit", "export", "--follow"]);
        let mut lines = BufReader::new(export.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time");
        assert!(line.unwrap().unwrap().contains("user_registered"));
        // What a restored backup, put in place below the export, comes to.
        database.execute("UPDATE feed_state SET history = 'another'").await;
        let ended = tokio::time::timeout(PATIENCE, export.wait()).await.expect("in time");
        assert_eq!(ended.unwrap().code(), Some(1));
        assert_eq!(lines.next_line().await.unwrap(), None);
    }
}

/// Transactions commit in another order than they began, and their events are dated in a third.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_misses_no_event_of_a_transaction_that_commits_late() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let server = TestServer::start(&database).await;
    let late = database.client().await;
    late.batch_execute(
        "BEGIN; INSERT INTO audit_events (id, kind, client_ip, request_id, created_at)
         VALUES ('01800000-0000-7000-8000-000000000001', 'logged_out', '', 'late', 1)",
    )
    .await
    .unwrap();
    server.register(ADA).await.unwrap();
    // Events of one moment are in no order.
    server.clock.advance(Duration::from_secs(1));
    server.login(ADA).await.unwrap();
    let first = exported(&database, None).await;
    assert_eq!(kinds(&first), ["user_registered", "logged_in"]);
    late.batch_execute("COMMIT").await.unwrap();
    let cursor = first[1]["cursor"].as_str().unwrap();
    let second = exported(&database, Some(cursor)).await;
    assert_eq!(second.len(), 1);
    assert_eq!(second[0]["request_id"], "late");
}

/// What an export prints while a purge deletes events that it has picked to give them positions.
async fn exported_during_a_purge(
    database: &TestDatabase,
    cursor: Option<&str>,
    deleted: &str,
) -> Vec<Value> {
    let purge = database.client().await;
    let delete = format!("BEGIN; DELETE FROM audit_events WHERE {deleted}");
    purge.batch_execute(&delete).await.unwrap();
    let commit = async {
        let waiting =
            "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        eventually("the export waits for the purge", async || {
            database.count(waiting).await == 1
        })
        .await;
        purge.batch_execute("COMMIT").await.unwrap();
    };
    tokio::join!(exported(database, cursor), commit).0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_continues_after_a_purge_deleted_events_that_it_was_numbering() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let server = TestServer::start(&database).await;
    server.register(ADA).await.unwrap();
    for _ in 0..2 {
        server.clock.advance(Duration::from_secs(1));
        server.login(ADA).await.unwrap();
    }
    let oldest = "id = (SELECT min(id) FROM audit_events)";
    let first = exported_during_a_purge(&database, None, oldest).await;
    assert_eq!(kinds(&first), ["logged_in", "logged_in"]);
    // One more than the export picks at once.
    database
        .execute(
            "INSERT INTO audit_events (id, kind, client_ip, request_id, created_at)
             SELECT '01800000-0000-7000-8000-' || lpad(i::text, 12, '0'), 'logged_out', '', i::text, i
             FROM generate_series(1, 501) AS i",
        )
        .await;
    let cursor = first[1]["cursor"].as_str();
    let all_picked = "created_at BETWEEN 1 AND 500";
    let second = exported_during_a_purge(&database, cursor, all_picked).await;
    assert_eq!(kinds(&second), ["logged_out"]);
    assert_eq!(second[0]["request_id"], "501");
}

/// Two exports and many writers at once: each export sees every event once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_exports_during_logins_see_every_event_once() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let server = TestServer::start(&database).await;
    for number in 0..8 {
        server
            .register(&format!("user{number}@example.org"))
            .await
            .unwrap();
    }
    let logins = join_all((0..40).map(|number| {
        let (server, email) = (&server, format!("user{}@example.org", number % 8));
        async move { server.login(&email).await.unwrap() }
    }));
    let follow = async || {
        let mut events = Vec::new();
        for _ in 0..6 {
            let cursor = events
                .last()
                .map(|event: &Value| event["cursor"].as_str().unwrap().to_owned());
            events.extend(exported(&database, cursor.as_deref()).await);
        }
        events
    };
    let (one, other, _) = tokio::join!(follow(), follow(), logins);
    for mut events in [one, other] {
        let cursor = events
            .last()
            .map(|event| event["cursor"].as_str().unwrap().to_owned());
        events.extend(exported(&database, cursor.as_deref()).await);
        let ids: BTreeSet<_> = events.iter().map(|event| event["id"].to_string()).collect();
        assert_eq!((events.len(), ids.len()), (48, 48));
    }
}

/// A copy has a history of its own: its events may get other positions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_from_before_a_restore_is_refused() {
    let database = TestDatabase::create(Kind::Sqlite).await;
    let server = TestServer::start(&database).await;
    server.signed_in(ADA).await;
    let events = exported(&database, None).await;
    let cursor = events[0]["cursor"].as_str().unwrap();
    let copy = TestDatabase::create(Kind::Sqlite).await;
    let path = copy.sqlite_path();
    let backup = run(&database, &[], &["backup", path.to_str().unwrap()]).await;
    assert_eq!(backup.status.code(), Some(0), "{backup:?}");
    let refused = run(&copy, &[], &["audit", "export", "--cursor", cursor]).await;
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("restored or promoted"), "{said}");
    assert_eq!(exported(&copy, None).await.len(), 2);
}

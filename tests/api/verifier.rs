//! VerifierService: the keys, and the stream of revocations, as a gateway uses them.

use std::time::Duration;

use countersign::{
    clock::Timestamp,
    grpc::pb::{
        DisableUserRequest, RotateSigningKeyRequest, WatchRevocationsRequest,
        verifier_service_client::VerifierServiceClient,
    },
};
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use serde_json::Value;
use tokio::time::{Instant, timeout};
use tonic::{Code, transport::Channel};

use crate::connections::assert_connection_closing;
use crate::support::{
    Kind, TestDatabase, TestServer, failure, on_both_databases,
    operator::{PATIENCE, Watcher, bearing},
    reason,
};

const ADMIN: &str = "root@example.org";
const VERIFIER: &str = "gateway@example.org";

/// Short polls, so that freshness moves while a test watches.
const QUICK: &[(&str, &str)] = &[("COUNTERSIGN_REVOCATION_POLL_INTERVAL", "200ms")];

/// Opens a session of `ada@example.org` and ends it; returns its id.
async fn ended_session(server: &TestServer) -> String {
    let tokens = server.login("ada@example.org").await.unwrap();
    server.logout(&tokens.refresh_token).await.unwrap();
    tokens.session_id
}

/// Puts many revocations into the table, as if written long ago.
async fn many_revocations(database: &TestDatabase, count: u32, now: Timestamp) {
    let twelve_digits = match database.kind {
        Kind::Sqlite => "substr('00000000000' || i, -12)",
        Kind::Postgres => "lpad(i::text, 12, '0')",
    };
    let (now, end) = (now.micros(), (now + Duration::from_secs(3_600)).micros());
    let sql = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
         INSERT INTO revocations (id, kind, subject, not_before, created_at, expires_at, position)
         SELECT 'r' || i, 'session', '01900000-0000-7000-8000-' || {twelve_digits}, {now}, {now}, {end}, i FROM n",
    );
    database.execute(&sql).await;
}

on_both_databases! {
    async fn the_jwks_verifies_our_tokens_with_any_library(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        let jwks = server.jwks().await;
        assert_eq!(jwks.max_age.unwrap().seconds, 300);
        let set: JwkSet = serde_json::from_str(&jwks.jwks_json).unwrap();
        let header = decode_header(&tokens.access_token).unwrap();
        let key = set.find(&header.kid.unwrap()).expect("the key is published");
        let mut rules = Validation::new(header.alg);
        rules.set_audience(&["countersign"]);
        // The tests' clock is not the machine's.
        rules.validate_exp = false;
        let key = DecodingKey::from_jwk(key).unwrap();
        let claims = decode::<Value>(&tokens.access_token, &key, &rules).unwrap().claims;
        assert_eq!(claims["sid"], tokens.session_id.as_str());
        assert!(!jwks.jwks_json.contains("\"d\""), "no private key");
    }

    async fn a_watcher_gets_a_snapshot_the_mark_of_its_end_and_every_change(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let admin = server.signed_in_as(ADMIN, "admin").await;
        let ada = server.register("ada@example.org").await.unwrap();
        let mut ended = vec![ended_session(&server).await, ended_session(&server).await];
        let mut watcher = server.watch(&admin.access_token, "").await.unwrap();
        watcher.until(|heard| heard.is_complete).await;
        assert_eq!(watcher.sessions, ended.iter().cloned().collect());
        let jwks = server.jwks().await;
        assert_eq!(watcher.jwks.as_ref().unwrap().jwks_json, jwks.jwks_json);
        assert_eq!(watcher.jwks.as_ref().unwrap().max_age, jwks.max_age);

        ended.push(ended_session(&server).await);
        watcher.until(|heard| heard.sessions.contains(&ended[2])).await;

        let request = DisableUserRequest { user_id: ada.user_id.clone() };
        server.admin().disable_user(bearing(&admin.access_token, request)).await.unwrap();
        watcher.until(|heard| heard.users.contains_key(&ada.user_id)).await;
        assert_eq!(watcher.users[&ada.user_id], server.clock.now().seconds());

        let request = RotateSigningKeyRequest { emergency: false };
        server.admin().rotate_signing_key(bearing(&admin.access_token, request)).await.unwrap();
        watcher.until(|heard| heard.jwks.as_ref().unwrap().jwks_json != jwks.jwks_json).await;
        assert_eq!(watcher.jwks.as_ref().unwrap().jwks_json, server.jwks().await.jwks_json);
    }

    async fn changes_made_on_another_replica_are_sent(database: TestDatabase) {
        let here = TestServer::start(&database).await;
        let there = here.replica(&[]).await;
        let token = here.signed_in_as(VERIFIER, "verifier").await.access_token;
        here.register("ada@example.org").await.unwrap();
        let mut watcher = there.watch(&token, "").await.unwrap();
        watcher.until(|heard| heard.is_complete).await;
        let ended = ended_session(&here).await;
        watcher.until(|heard| heard.sessions.contains(&ended)).await;
    }

    async fn heartbeats_come_every_second_with_the_time_of_the_last_read(database: TestDatabase) {
        let server = TestServer::start_with(&database, QUICK).await;
        let token = server.signed_in_as(VERIFIER, "verifier").await.access_token;
        let mut watcher = server.watch(&token, "").await.unwrap();
        watcher.cursor().await;
        let began = Instant::now();
        for _ in 0..3 {
            watcher.cursor().await;
        }
        // Three seconds were promised; the rest is for a machine with other things to do.
        assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
        server.clock.advance(Duration::from_secs(60));
        let now = server.clock.now().seconds();
        watcher.until(|heard| {
            let heartbeat = heard.heartbeat.as_ref().unwrap();
            heartbeat.revocation_as_of.unwrap().seconds == now
        }).await;
    }

    async fn a_cursor_resumes_on_any_replica_and_misses_nothing(database: TestDatabase) {
        let here = TestServer::start_with(&database, QUICK).await;
        let there = here.replica(QUICK).await;
        let token = here.signed_in_as(VERIFIER, "verifier").await.access_token;
        here.register("ada@example.org").await.unwrap();
        let old = ended_session(&here).await;
        let mut watcher = here.watch(&token, "").await.unwrap();
        watcher.until(|heard| heard.is_complete).await;
        assert!(watcher.sessions.contains(&old));
        let cursor = watcher.cursor().await;
        drop(watcher);

        let newer = [ended_session(&here).await, ended_session(&there).await];
        for server in [&here, &there] {
            let mut resumed = server.watch(&token, &cursor).await.unwrap();
            let all = |heard: &Watcher| newer.iter().all(|id| heard.sessions.contains(id));
            resumed.until(|heard| heard.is_complete && all(heard)).await;
            assert!(resumed.jwks.is_some(), "the keys come in any case");
        }
    }

    async fn only_verifiers_and_administrators_may_watch(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let user = server.signed_in("ada@example.org").await.access_token;
        assert_eq!(watch_reason(&server, "", "").await, "TOKEN_MISSING");
        assert_eq!(watch_reason(&server, "garbage", "").await, "TOKEN_INVALID");
        let status = server.watch(&user, "").await.err().unwrap();
        assert_eq!(failure(&status).code, Code::PermissionDenied);
        assert_eq!(failure(&status).reason, "INSUFFICIENT_ROLE");
        for role in ["verifier", "admin", "editor verifier"] {
            let email = format!("{}@example.org", role.replace(' ', "."));
            let token = server.signed_in_as(&email, role).await.access_token;
            server.watch(&token, "").await.unwrap();
        }
    }

    async fn a_cursor_that_was_not_issued_is_refused(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let token = server.signed_in_as(VERIFIER, "verifier").await.access_token;
        for cursor in ["x", "AQAAAAAAAAAB=", "AgAAAAAAAAAB", &"A".repeat(10_000)] {
            let status = server.watch(&token, cursor).await.err().unwrap();
            let failure = failure(&status);
            assert_eq!((failure.code, failure.reason.as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
            let fields = &failure.details.bad_request().unwrap().field_violations;
            assert_eq!((fields.len(), fields[0].field.as_str()), (1, "cursor"));
            assert_eq!(fields[0].reason, "MALFORMED");
        }
    }

    async fn the_stream_ends_with_the_token_that_opened_it(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in_as(VERIFIER, "verifier").await;
        let mut watcher = server.watch(&tokens.access_token, "").await.unwrap();
        watcher.until(|heard| heard.is_complete).await;
        server.logout(&tokens.refresh_token).await.unwrap();
        assert_eq!(reason(watcher.end().await), "TOKEN_REVOKED");

        let tokens = server.login(VERIFIER).await.unwrap();
        let mut watcher = server.watch(&tokens.access_token, "").await.unwrap();
        watcher.until(|heard| heard.is_complete).await;
        server.clock.advance(Duration::from_secs(15 * 60));
        let status = watcher.end().await.unwrap_err();
        assert_eq!(failure(&status).code, Code::Unauthenticated);
        assert_eq!(failure(&status).reason, "TOKEN_EXPIRED");
    }

    async fn an_emergency_rotation_ends_the_streams_of_all_old_tokens(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let admin = server.signed_in_as(ADMIN, "admin").await.access_token;
        let mut watcher = server.watch(&admin, "").await.unwrap();
        watcher.until(|heard| heard.is_complete).await;
        let request = RotateSigningKeyRequest { emergency: true };
        server.admin().rotate_signing_key(bearing(&admin, request)).await.unwrap();
        assert_eq!(reason(watcher.end().await), "TOKEN_INVALID");
    }

    async fn a_drain_ends_every_stream_at_once(database: TestDatabase) {
        let mut server = TestServer::start(&database).await;
        let token = server.signed_in_as(VERIFIER, "verifier").await.access_token;
        let mut watchers = Vec::new();
        for _ in 0..10 {
            let mut watcher = server.watch(&token, "").await.unwrap();
            watcher.until(|heard| heard.is_complete).await;
            watchers.push(watcher);
        }
        server.begin_stop();
        for watcher in watchers {
            assert_connection_closing(&watcher.end().await.unwrap_err());
        }
        // Less than the drain time-out.
        timeout(Duration::from_secs(10), server.stop()).await.expect("watchers do not hold the drain up");
    }

    async fn a_watcher_that_does_not_read_is_disconnected(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let token = server.signed_in_as(VERIFIER, "verifier").await.access_token;
        many_revocations(&database, 20_000, server.clock.now()).await;
        let full = server.replica(&[]).await;
        // With the window that HTTP/2 begins with: this library's is large enough for all of it.
        let channel = Channel::from_shared(format!("http://{}", full.address)).unwrap();
        let channel = channel.initial_stream_window_size(65_535).connect().await.unwrap();
        let request = bearing(&token, WatchRevocationsRequest::default());
        let mut unread = VerifierServiceClient::new(channel)
            .watch_revocations(request)
            .await
            .unwrap()
            .into_inner();
        // Longer than the server's patience with one message.
        tokio::time::sleep(Duration::from_secs(6)).await;
        let mut messages = 0;
        let status = loop {
            match timeout(PATIENCE, unread.message()).await.expect("it goes on") {
                Ok(Some(_)) => messages += 1,
                Ok(None) => panic!("it was not cut off"),
                Err(status) => break status,
            }
        };
        // The snapshot has 79 parts.
        assert!(messages < 40, "{messages} messages were kept for it");
        let details = tonic_types::StatusExt::get_error_details(&status);
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(details.error_info().unwrap().reason, "WATCHER_TOO_SLOW");
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
        // A watcher that connects again gets everything.
        let mut again = full.watch(&token, "").await.unwrap();
        again.until(|heard| heard.is_complete).await;
        assert_eq!(again.sessions.len(), 20_000);
    }
}

async fn watch_reason(server: &TestServer, token: &str, cursor: &str) -> String {
    let status = server.watch(token, cursor).await.err();
    failure(&status.expect("it is refused")).reason
}

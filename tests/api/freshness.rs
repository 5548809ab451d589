//! "At least as fresh as": the cursor that a revocation returns, and ValidateToken with `at_least_cursor`.

use std::{collections::BTreeSet, time::Duration};

use countersign::{
    domain::FeedEpoch,
    grpc::pb::{
        DisableUserRequest, LogoutRequest, RevokeAllSessionsRequest, RevokeSessionRequest,
        RevokeUserSessionsRequest, TokenPair, ValidateTokenRequest, ValidateTokenResponse,
        auth_service_client::AuthServiceClient,
    },
    revocation::Cursor,
};
use futures_util::{
    StreamExt as _,
    stream::{self, FuturesUnordered},
};
use tonic::{Code, Request, Status};

use crate::support::{
    Kind, TestDatabase, TestServer, eventually, failure, on_both_databases, operator::bearing,
    reason, server::connect,
};

/// With these a replica learns of a revocation by a notification, or because a call waits for it.
pub const NO_POLL: [(&str, &str); 2] = [
    ("COUNTERSIGN_REVOCATION_POLL_INTERVAL", "10m"),
    ("COUNTERSIGN_REVOCATION_MAX_STALENESS", "1h"),
];

/// Longer than any test waits: the server's own limit must not end the call.
pub const PATIENT: &[(&str, &str)] = &[("COUNTERSIGN_REQUEST_TIMEOUT", "30s")];

pub async fn validate_at_least(
    server: &TestServer,
    access_token: &str,
    cursor: &str,
    within: Option<Duration>,
) -> Result<ValidateTokenResponse, Status> {
    let mut request = Request::new(ValidateTokenRequest {
        access_token: access_token.to_owned(),
        at_least_cursor: cursor.to_owned(),
        ..Default::default()
    });
    if let Some(within) = within {
        request.set_timeout(within);
    }
    Ok(server.auth().validate_token(request).await?.into_inner())
}

pub async fn logout(server: &TestServer, tokens: &TokenPair) -> String {
    let request = LogoutRequest {
        refresh_token: tokens.refresh_token.clone(),
    };
    let response = server.auth().logout(request).await.unwrap();
    response.into_inner().revocation_cursor
}

/// A cursor of the epoch of this one, far ahead of the database.
fn unreachable(cursor: &str) -> String {
    let cursor = Cursor::parse("cursor", cursor).unwrap();
    Cursor::new(cursor.epoch(), i64::MAX).to_string()
}

/// Every way to revoke the sessions of a user, each on a user of its own: the tokens that end, and the cursor.
async fn revoke_in_every_way(
    server: &TestServer,
    admin: &str,
) -> Vec<(&'static str, TokenPair, String)> {
    let mut ended = Vec::new();
    let user = async |name: &str| server.signed_in(&format!("{name}@example.org")).await;
    let user_id =
        async |tokens: &TokenPair| server.validate(&tokens.access_token).await.unwrap().user_id;

    let tokens = user("logout").await;
    let cursor = logout(server, &tokens).await;
    ended.push(("Logout", tokens, cursor));

    let tokens = user("session").await;
    let request = RevokeSessionRequest {
        session_id: tokens.session_id.clone(),
    };
    let response = server
        .account()
        .revoke_session(bearing(&tokens.access_token, request))
        .await;
    ended.push((
        "RevokeSession",
        tokens,
        response.unwrap().into_inner().revocation_cursor,
    ));

    let tokens = user("all").await;
    let request = RevokeAllSessionsRequest {
        keep_current: false,
    };
    let response = server
        .account()
        .revoke_all_sessions(bearing(&tokens.access_token, request))
        .await;
    ended.push((
        "RevokeAllSessions",
        tokens,
        response.unwrap().into_inner().revocation_cursor,
    ));

    let tokens = user("others").await;
    let kept = server.login("others@example.org").await.unwrap();
    let request = RevokeAllSessionsRequest { keep_current: true };
    let response = server
        .account()
        .revoke_all_sessions(bearing(&kept.access_token, request))
        .await;
    ended.push((
        "RevokeAllSessions but one",
        tokens,
        response.unwrap().into_inner().revocation_cursor,
    ));

    let tokens = user("disabled").await;
    let request = DisableUserRequest {
        user_id: user_id(&tokens).await,
    };
    let response = server.admin().disable_user(bearing(admin, request)).await;
    ended.push((
        "DisableUser",
        tokens,
        response.unwrap().into_inner().revocation_cursor,
    ));

    let tokens = user("revoked").await;
    let request = RevokeUserSessionsRequest {
        user_id: user_id(&tokens).await,
    };
    let response = server
        .admin()
        .revoke_user_sessions(bearing(admin, request))
        .await;
    ended.push((
        "RevokeUserSessions",
        tokens,
        response.unwrap().into_inner().revocation_cursor,
    ));
    ended
}

on_both_databases! {
    async fn a_replica_at_the_cursor_of_a_revocation_refuses_the_revoked_tokens(database: TestDatabase) {
        let writer = TestServer::start_with(&database, PATIENT).await;
        let reader = writer.replica(&[NO_POLL.as_slice(), PATIENT].concat()).await;
        let admin = writer.signed_in_as("root@example.org", "admin").await.access_token;
        for (call, tokens, cursor) in revoke_in_every_way(&writer, &admin).await {
            for server in [&reader, &writer] {
                let answer = validate_at_least(server, &tokens.access_token, &cursor, None).await;
                assert_eq!(reason(answer), "TOKEN_REVOKED", "{call}");
            }
        }
        // What is not revoked is valid, and the answer is that fresh.
        let tokens = writer.signed_in("eve@example.org").await;
        let cursor = logout(&writer, &writer.login("eve@example.org").await.unwrap()).await;
        validate_at_least(&reader, &tokens.access_token, &cursor, None).await.unwrap();
    }

    async fn revoking_again_returns_a_cursor_that_includes_the_first_revocation(database: TestDatabase) {
        let one = TestServer::start_with(&database, PATIENT).await;
        let other = one.replica(&[NO_POLL.as_slice(), PATIENT].concat()).await;
        let admin = one.signed_in_as("root@example.org", "admin").await.access_token;
        let tokens = one.signed_in("ada@example.org").await;
        let user_id = one.validate(&tokens.access_token).await.unwrap().user_id;
        let first = logout(&one, &tokens).await;
        let again = logout(&other, &tokens).await;
        let [first, again] = [first, again].map(|text| Cursor::parse("cursor", &text).unwrap());
        assert!(again.is_at_least(first), "{again:?} {first:?}");
        for _ in 0..2 {
            let request = DisableUserRequest { user_id: user_id.clone() };
            let response = other.admin().disable_user(bearing(&admin, request)).await.unwrap();
            let cursor = response.into_inner().revocation_cursor;
            assert!(Cursor::parse("cursor", &cursor).unwrap().is_at_least(first));
            let answer = validate_at_least(&one, &tokens.access_token, &cursor, None).await;
            assert_eq!(reason(answer), "TOKEN_REVOKED");
        }
    }

    async fn a_cursor_that_is_not_reached_in_time_is_answered_stale_before_the_deadline(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[("COUNTERSIGN_REQUEST_TIMEOUT", "2s")]).await;
        let tokens = server.signed_in("ada@example.org").await;
        let cursor = logout(&server, &server.login("ada@example.org").await.unwrap()).await;
        let position = Cursor::parse("cursor", &cursor).unwrap().position();
        let other_epoch = Cursor::new(FeedEpoch::from_bytes([7; 8]), position).to_string();
        let without_epoch = "AQAAAAAAAAAB".to_owned();
        for (cursor, within) in [
            (unreachable(&cursor), Some(Duration::from_secs(1))),
            (unreachable(&cursor), None),
            (other_epoch, Some(Duration::from_secs(1))),
            (without_epoch, Some(Duration::from_secs(1))),
        ] {
            let answer = validate_at_least(&server, &tokens.access_token, &cursor, within).await;
            let failure = failure(&answer.unwrap_err());
            assert_eq!((failure.code, failure.reason.as_str()), (Code::Unavailable, "REVOCATION_STATE_STALE"));
            assert!(failure.details.retry_info().is_some());
        }
        validate_at_least(&server, &tokens.access_token, &cursor, None).await.unwrap();
    }

    async fn a_malformed_cursor_is_refused_before_the_token_is_checked(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        for cursor in ["x", "AgAAAAAAAAAB", &"A".repeat(10_000)] {
            let answer = validate_at_least(&server, "garbage", cursor, None).await;
            let failure = failure(&answer.unwrap_err());
            assert_eq!((failure.code, failure.reason.as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
            let fields = &failure.details.bad_request().unwrap().field_violations;
            assert_eq!((fields.len(), fields[0].field.as_str()), (1, "at_least_cursor"));
        }
    }

    async fn a_heartbeat_that_reaches_the_cursor_comes_after_the_revocation(database: TestDatabase) {
        let here = TestServer::start(&database).await;
        let there = here.replica(&[]).await;
        let token = here.signed_in_as("gateway@example.org", "verifier").await.access_token;
        let mut watcher = there.watch(&token, "").await.unwrap();
        watcher.until(|heard| heard.is_complete).await;
        here.register("ada@example.org").await.unwrap();
        for _ in 0..3 {
            let tokens = here.login("ada@example.org").await.unwrap();
            let cursor = Cursor::parse("cursor", &logout(&here, &tokens).await).unwrap();
            watcher.until(|heard| {
                let heartbeat = heard.heartbeat.as_ref().map(|heartbeat| heartbeat.cursor.as_str());
                Cursor::parse("cursor", heartbeat.unwrap_or_default()).unwrap().is_at_least(cursor)
            }).await;
            assert!(watcher.sessions.contains(&tokens.session_id));
        }
    }

    async fn a_call_with_an_invalid_token_does_not_wait_for_a_cursor(database: TestDatabase) {
        let server = TestServer::start_with(&database, PATIENT).await;
        let tokens = server.signed_in("ada@example.org").await;
        let gone = server.login("ada@example.org").await.unwrap();
        let far = unreachable(&logout(&server, &gone).await);
        let validate = async |token: &str| reason(validate_at_least(&server, token, &far, None).await);
        assert_eq!(validate("x.y.z").await, "TOKEN_INVALID");
        assert_eq!(validate("").await, "TOKEN_MISSING");
        assert_eq!(validate(&gone.access_token).await, "TOKEN_REVOKED");
        server.clock.advance(Duration::from_secs(3600));
        assert_eq!(validate(&tokens.access_token).await, "TOKEN_EXPIRED");
    }

    async fn calls_beyond_the_limit_on_waiting_calls_are_refused_and_others_are_answered(database: TestDatabase) {
        let server = TestServer::start_with(&database, PATIENT).await;
        let tokens = server.signed_in("ada@example.org").await;
        let others = server.signed_in("bob@example.org").await;
        let cursor = logout(&server, &server.login("ada@example.org").await.unwrap()).await;
        let far = unreachable(&cursor);
        // One connection has 256 streams.
        let mut waiting = FuturesUnordered::new();
        for _ in 0..6 {
            let client = AuthServiceClient::new(connect(server.address).await);
            for _ in 0..200 {
                let request = ValidateTokenRequest {
                    access_token: tokens.access_token.clone(),
                    at_least_cursor: far.clone(),
                    ..Default::default()
                };
                let mut client = client.clone();
                waiting.push(async move { reason(client.validate_token(request).await) });
            }
        }
        // A user has 128 places; the other calls wait for nothing.
        for _ in 0..1_200 - 128 {
            assert_eq!(waiting.next().await.unwrap(), "RATE_LIMITED");
        }
        server.validate(&tokens.access_token).await.unwrap();
        validate_at_least(&server, &tokens.access_token, &cursor, None).await.unwrap();
        // Other users have places of their own.
        let within = Some(Duration::from_millis(500));
        let answer = validate_at_least(&server, &others.access_token, &far, within).await;
        assert_ne!(answer.unwrap_err().code(), Code::ResourceExhausted);
        drop(waiting);
        // A caller that goes away gives its place back.
        eventually("there are places", async || {
            let within = Some(Duration::from_millis(200));
            let answer = validate_at_least(&server, &tokens.access_token, &far, within).await;
            answer.unwrap_err().code() != Code::ResourceExhausted
        }).await;
    }
}

/// Two replicas revoke at once, while somebody reads the table again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocations_become_visible_in_the_order_of_their_positions() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let one = TestServer::start_on_system_clock(&database, &[]).await;
    let other = TestServer::start_on_system_clock(&database, &[]).await;
    one.register("ada@example.org").await.unwrap();
    let mut sessions = Vec::new();
    for _ in 0..60 {
        sessions.push(one.login("ada@example.org").await.unwrap());
    }
    let client = database.client().await;
    // Not so many at once that a slow disk keeps one waiting for too long.
    let revoke = stream::iter(sessions.iter().enumerate())
        .map(|(number, tokens)| {
            let server = if number % 2 == 0 { &one } else { &other };
            async move { logout(server, tokens).await }
        })
        .buffer_unordered(8)
        .collect::<Vec<_>>();
    let read = async {
        let mut seen = BTreeSet::new();
        let mut reads = 0;
        while seen.len() < sessions.len() {
            let rows = client
                .query("SELECT position FROM revocations", &[])
                .await
                .unwrap();
            let newest = seen.last().copied().unwrap_or(i64::MIN);
            for position in rows.iter().map(|row| row.get::<_, i64>(0)) {
                assert!(
                    seen.contains(&position) || position > newest,
                    "{position} came after {newest}"
                );
                seen.insert(position);
            }
            reads += 1;
        }
        reads
    };
    let (cursors, reads) = tokio::join!(revoke, read);
    assert!(reads > 5, "the table was read only {reads} times");
    assert_eq!(
        cursors.into_iter().collect::<BTreeSet<_>>().len(),
        60,
        "each has its own cursor"
    );
}

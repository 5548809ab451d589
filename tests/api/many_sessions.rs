//! Users with very many sessions, and the bound that keeps them from having so many.

use std::time::Duration;

use countersign::{
    clock::Timestamp,
    grpc::pb::{
        ChangePasswordRequest, ChangePasswordResponse, DisableUserRequest, ListSessionsRequest,
        RevokeAllSessionsRequest, Session, account_service_client::AccountServiceClient,
    },
};
use futures_util::future::join_all;

use crate::{
    account::{Account, assert_ended, assert_live, is_revoked},
    support::{
        Kind, PASSWORD, TestDatabase, TestServer, eventually, failure, on_both_databases,
        operator::bearing, process::TestProcess, reason,
    },
};

const ADA: &str = "ada@example.org";
const BOB: &str = "bob@example.org";
const NEW_PASSWORD: &str = "an engine that dreams of looms";
/// Where the sweep is waited for. Such a test took 5 s on SQLite and 14 s on PostgreSQL, beside other tests; one with 60,000
/// took 12 s and 33 s.
const MANY: i64 = 20_000;
/// From about here on, statements for each session did not end in time. They are ended, and their sweep is not waited for.
const VERY_MANY: i64 = 60_000;
/// So that the bound does not get in the way of what is tested.
const UNBOUNDED: [(&str, &str); 1] = [("COUNTERSIGN_MAX_SESSIONS_PER_USER", "100000")];

/// Gives every user so many more live sessions, one opened each second up to now, as a version wrote them that does not
/// know epochs.
async fn insert_sessions(database: &TestDatabase, now: Timestamp, count: i64) {
    let now = now.micros();
    let sql = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
         INSERT INTO sessions (id, user_id, device_label, client_ip, user_agent, generation,
                               created_at, rotated_at, idle_expires_at, absolute_expires_at)
         SELECT '01900000-0000-7000-8000-' || CAST(100000000000 + i AS TEXT), users.id, '', '', '', 0,
                {now} - CAST(i AS BIGINT) * 1000000, {now} - CAST(i AS BIGINT) * 1000000, {now} + 86400000000, {now} + 86400000000
         FROM n, users WHERE email_key = '{ADA}'"
    );
    database.execute(&sql).await;
}

async fn until_swept(database: &TestDatabase, left: i64) {
    eventually("every row of an ended session is revoked", async || {
        database.count("session_sweeps").await == 0
            && database.count("sessions WHERE revoked_at IS NULL").await == left
    })
    .await;
}

on_both_databases! {
    async fn a_user_with_many_sessions_can_be_disabled(database: TestDatabase) {
        let server = TestServer::start_with(&database, &UNBOUNDED).await;
        let root = server.signed_in_as("root@example.org", "admin").await;
        let ada = server.signed_in(ADA).await;
        let clock = server.clock.clone();
        // On SQLite the insertion keeps a server from writing for so long that it is an outage.
        server.stop().await;
        insert_sessions(&database, clock.now(), VERY_MANY).await;
        let server = TestServer::try_start(&database, &UNBOUNDED, clock).await.unwrap();
        let user_id = server.validate(&ada.access_token).await.unwrap().user_id;
        let request = bearing(&root.access_token, DisableUserRequest { user_id });
        let disabled = server.admin().disable_user(request).await.unwrap().into_inner();
        assert!(disabled.user.unwrap().disabled);
        assert_ended(&server, &ada).await;
        eventually("the sweep has begun", async || {
            database.count("sessions WHERE revoked_at IS NOT NULL").await > 1_000
        })
        .await;
        assert_ended(&server, &ada).await;
        assert_live(&server, &root).await;
    }

    async fn a_user_with_many_sessions_can_do_everything(database: TestDatabase) {
        let server = TestServer::start_with(&database, &UNBOUNDED).await;
        let ada = server.signed_in(ADA).await;
        insert_sessions(&database, server.clock.now(), MANY).await;
        let phone = server.login(ADA).await.unwrap();
        let account = Account(&server, &phone.access_token);
        let page = account.page(2, "").await.unwrap();
        let listed: Vec<_> = page.sessions.iter().map(|session| session.session_id.as_str()).collect();
        assert!(listed.contains(&phone.session_id.as_str()) && listed.contains(&ada.session_id.as_str()));
        let next = account.page(2, &page.next_page_token).await.unwrap();
        assert_eq!(next.sessions[0].session_id, "01900000-0000-7000-8000-100000000001");
        account.revoke(&next.sessions[0].session_id).await.unwrap();

        assert_eq!(account.revoke_all(true).await.unwrap(), 1_000, "no more are counted");
        // Whatever has been swept yet.
        let sessions = account.sessions().await.unwrap();
        assert_eq!(sessions.len(), 1);
        assert_eq!(sessions[0].session_id, phone.session_id);
        assert_ended(&server, &ada).await;
        assert_live(&server, &phone).await;

        let tokens = account.change_password(PASSWORD, NEW_PASSWORD).await.unwrap();
        assert_ended(&server, &phone).await;
        assert_live(&server, &tokens).await;
        until_swept(&database, 1).await;
        assert_live(&server, &server.login_as(ADA, NEW_PASSWORD).await.unwrap()).await;
        assert_live(&server, &tokens).await;
    }

    async fn a_new_password_revokes_every_token_of_many_sessions_at_once(database: TestDatabase) {
        let server = TestServer::start_with(&database, &UNBOUNDED).await;
        let ada = server.signed_in(ADA).await;
        let oldest = server.login(ADA).await.unwrap();
        server.clock.advance(Duration::from_secs(60));
        // Newer than hers, so that the transaction does not get to hers one by one.
        insert_sessions(&database, server.clock.now(), 50).await;
        for _ in 0..250 {
            server.login(ADA).await.unwrap();
        }
        let account = Account(&server, &ada.access_token);
        let tokens = account.change_password(PASSWORD, NEW_PASSWORD).await.unwrap();
        assert_ended(&server, &oldest).await;
        assert_live(&server, &tokens).await;
        until_swept(&database, 1).await;
        assert_live(&server, &tokens).await;
    }

    /// A replica ended the sessions and crashed before it got to the rows.
    async fn another_replica_continues_where_one_crashed(database: TestDatabase) {
        let server = TestServer::start_with(&database, &UNBOUNDED).await;
        let ada = server.signed_in(ADA).await;
        insert_sessions(&database, server.clock.now(), 2_000).await;
        let now = server.clock.now().micros();
        let claimed_until = now + 10_000_000;
        database.execute(&format!(
            "INSERT INTO session_sweeps SELECT id, {now}, 0, {claimed_until} FROM users;
             UPDATE users SET session_epoch = {now} + 1"
        )).await;
        assert_eq!(reason(server.refresh(&ada.refresh_token).await), "SESSION_REVOKED");
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert_eq!(database.count("session_sweeps").await, 1, "somebody else is at it");
        server.clock.advance(Duration::from_secs(10));
        until_swept(&database, 0).await;
        assert!(is_revoked(&server, &ada).await);
    }

    async fn the_oldest_session_ends_with_a_login_beyond_the_limit(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[("COUNTERSIGN_MAX_SESSIONS_PER_USER", "3")]).await;
        let replica = server.replica(&[]).await;
        let mut sessions = vec![server.signed_in(ADA).await];
        let bob = server.signed_in(BOB).await;
        for _ in 0..2 {
            server.clock.advance(Duration::from_secs(1));
            sessions.push(server.login(ADA).await.unwrap());
        }
        // A refresh makes no session younger, and one that was ended does not count.
        sessions[0] = server.refresh(&sessions[0].refresh_token).await.unwrap();
        server.logout(&sessions[1].refresh_token).await.unwrap();
        server.clock.advance(Duration::from_secs(1));
        sessions.push(server.login(ADA).await.unwrap());
        assert_live(&server, &sessions[0]).await;
        sessions[0] = server.login(ADA).await.map(|_| sessions[0].clone()).unwrap();
        assert_ended(&server, &sessions[0]).await;
        eventually("the replica hears of it", async || is_revoked(&replica, &sessions[0]).await).await;
        assert_live(&server, &sessions[2]).await;
        assert_live(&server, &sessions[3]).await;
        assert_live(&server, &bob).await;
        let event = format!(
            "audit_events WHERE kind = 'session_limit_reached' AND session_id = '{}'",
            sessions[0].session_id
        );
        assert_eq!(database.count(&event).await, 1);
        assert_eq!(database.count("audit_events WHERE kind = 'session_limit_reached'").await, 1);
    }

    async fn after_the_limit_was_lowered_the_oldest_sessions_end(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[("COUNTERSIGN_MAX_SESSIONS_PER_USER", "10")]).await;
        let ada = server.signed_in(ADA).await;
        insert_sessions(&database, server.clock.now(), 2_000).await;
        let phone = server.login(ADA).await.unwrap();
        until_swept(&database, 10).await;
        assert_live(&server, &ada).await;
        assert_live(&server, &phone).await;
        let kept = "sessions WHERE revoked_at IS NULL AND id >= '01900000-0000-7000-8000-100000000009'
                    AND id < '01900000-0000-7000-8000-200000000000'";
        assert_eq!(database.count(kept).await, 0, "the newest are kept");
    }

    /// On the system clock, and on two replicas.
    async fn concurrent_logins_hold_the_session_limit(database: TestDatabase) {
        let settings = [
            ("COUNTERSIGN_MAX_SESSIONS_PER_USER", "3"),
        ];
        let server = TestProcess::start_with(&database, &settings).await;
        // A SQLite file has one server.
        let replica = match database.kind {
            Kind::Postgres => Some(TestProcess::start_with(&database, &settings).await),
            Kind::Sqlite => None,
        };
        let replica = replica.as_ref().unwrap_or(&server);
        server.signed_in(ADA).await;
        for _ in 0..3 {
            let logins = (0..16).map(|i| if i % 2 == 0 { server.login(ADA) } else { replica.login(ADA) });
            let opened = join_all(logins).await.into_iter().flatten().count();
            assert!(opened > 3, "{opened}");
            assert_eq!(database.count("sessions WHERE revoked_at IS NULL").await, 3);
        }
        let last = server.login(ADA).await.unwrap();
        assert_eq!(sessions(&server, &last.access_token).await.len(), 3);
    }

    /// On the system clock: a refresh that races with the end of all sessions comes before it, and ends with them, or
    /// fails.
    async fn no_refresh_survives_the_end_of_all_sessions(database: TestDatabase) {
        let server = TestProcess::start(&database).await;
        server.signed_in(ADA).await;
        for round in 0..10 {
            let tokens = server.login(ADA).await.unwrap();
            let end = async {
                tokio::time::sleep(Duration::from_millis(round)).await;
                let request = bearing(&tokens.access_token, RevokeAllSessionsRequest { keep_current: false });
                AccountServiceClient::new(server.channel.clone()).revoke_all_sessions(request).await
            };
            let refreshes = join_all((0..4).map(|_| server.refresh(&tokens.refresh_token)));
            let (ended, refreshed) = tokio::join!(end, refreshes);
            ended.unwrap();
            for outcome in refreshed {
                match outcome {
                    Ok(pair) => {
                        let valid = server.validate(&pair.access_token).await.unwrap_err();
                        assert_eq!(failure(&valid).reason, "TOKEN_REVOKED");
                        let again = server.refresh(&pair.refresh_token).await;
                        assert_eq!(reason(again), "SESSION_REVOKED");
                    }
                    Err(status) => assert_eq!(failure(&status).reason, "SESSION_REVOKED"),
                }
            }
        }
    }

    /// On the system clock: the tokens of a new password are good at once, however close they are to the revoked ones.
    async fn the_tokens_after_a_new_password_are_valid_at_once(database: TestDatabase) {
        let server = TestProcess::start(&database).await;
        let mut tokens = server.signed_in(ADA).await;
        let passwords = [PASSWORD, NEW_PASSWORD];
        for round in 0..6 {
            let request = ChangePasswordRequest {
                current_password: passwords[round % 2].to_owned(),
                new_password: passwords[(round + 1) % 2].to_owned(),
            };
            let request = bearing(&tokens.access_token, request);
            let mut client = AccountServiceClient::new(server.channel.clone());
            let ChangePasswordResponse { tokens: new } =
                client.change_password(request).await.unwrap().into_inner();
            let old = std::mem::replace(&mut tokens, new.unwrap());
            assert_eq!(reason(server.validate(&old.access_token).await), "TOKEN_REVOKED");
            server.validate(&tokens.access_token).await.unwrap();
            tokens = server.refresh(&tokens.refresh_token).await.unwrap();
            server.validate(&tokens.access_token).await.unwrap();
        }
    }
}

async fn sessions(server: &TestProcess, access_token: &str) -> Vec<Session> {
    let request = bearing(access_token, ListSessionsRequest::default());
    let mut client = AccountServiceClient::new(server.channel.clone());
    let response = client.list_sessions(request).await.unwrap();
    response.into_inner().sessions
}

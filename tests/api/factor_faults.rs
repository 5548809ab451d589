//! Bad days of second factors: a change of master keys, a restored backup, a login that began before the enrollment.

use std::time::Duration;

use countersign::{clock::Clock, grpc::pb::LoginRequest};
use futures_util::future::join_all;

use crate::support::{
    Kind, PASSWORD, TestDatabase, TestServer, eventually,
    factors::{STEP, code_of, recovery, totp},
    on_both_databases,
    process::run,
    reason,
    server::{MASTER_KEYS, open_store, servers_at},
};

const ADA: &str = "ada@example.org";
const SECOND: &str = "v2:AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
const ONE_STEP: Duration = Duration::from_secs(STEP);

on_both_databases! {
    async fn factors_survive_a_change_of_master_keys(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (_, app) = server.with_app(ADA).await;
        let pending = server.challenged(ADA).await;
        let clock = server.clock.clone();
        server.stop().await;

        let both = format!("{SECOND},{MASTER_KEYS}");
        let both = [("COUNTERSIGN_MASTER_KEYS", both.as_str())];
        let server = TestServer::try_start(&database, &both, clock.clone()).await.unwrap();
        // Under the older key: the secret, a challenge, a recovery code.
        server.complete(&pending, totp(app.code(&server))).await.unwrap();
        let challenge = server.challenged(ADA).await;
        server.complete(&challenge, recovery(&app.recovery_codes[0])).await.unwrap();
        let report = run(&database, &both, &["keys", "rewrap"]).await;
        assert_eq!(report.status.code(), Some(0), "{report:?}");
        let report = String::from_utf8(report.stdout).unwrap();
        assert!(report.contains("1 secrets of authenticator apps encrypted again"), "{report}");
        let line = |version: &str| {
            let line = report.lines().find(|line| line.starts_with(version)).unwrap();
            line.split_whitespace().skip(3).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(line("v2"), ["1", "0"], "{report}");
        assert_eq!(line("v1"), ["0", "9"], "{report}");
        let again = run(&database, &both, &["keys", "rewrap"]).await;
        assert!(String::from_utf8(again.stdout).unwrap().contains("0 secrets of authenticator apps"));
        server.clock.advance(ONE_STEP);
        let challenge = server.challenged(ADA).await;
        let tokens = server.complete(&challenge, totp(app.code(&server))).await.unwrap().tokens.unwrap();
        let codes = server.new_recovery_codes(&tokens.access_token).await.unwrap();
        server.stop().await;

        // The older key is gone: what was sealed anew is good, a code that was not replaced is wrong.
        let second = [("COUNTERSIGN_MASTER_KEYS", SECOND)];
        let server = TestServer::try_start(&database, &second, clock).await.unwrap();
        server.clock.advance(ONE_STEP);
        let login = async |proof| {
            let challenge = server.challenged(ADA).await;
            server.complete(&challenge, proof).await
        };
        login(totp(app.code(&server))).await.unwrap();
        login(recovery(&codes[0])).await.unwrap();
        assert_eq!(reason(login(recovery(&app.recovery_codes[1])).await), "SECOND_FACTOR_INVALID");
    }

    async fn a_secret_whose_master_key_is_gone_is_an_outage_and_not_a_wrong_code(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (_, app) = server.with_app(ADA).await;
        database.execute("UPDATE totp_factors SET sealed_by = 77").await;
        let challenge = server.challenged(ADA).await;
        assert_eq!(reason(server.complete(&challenge, totp(app.code(&server))).await), "DATABASE_UNAVAILABLE");
        assert_eq!(database.count("login_failures").await, 0);
    }

    async fn factors_are_not_changed_in_a_session_that_has_ended_meanwhile(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in(ADA).await;
        let begun = server.begin_totp(&tokens.access_token).await.unwrap();
        let code = code_of(&begun.secret, server.clock.now());
        // Behind the server's back: its index does not know.
        database.execute("UPDATE sessions SET revoked_at = 1").await;
        let added = server.confirm_totp(&tokens.access_token, &begun.enrollment_token, &code).await;
        assert_eq!(reason(added), "TOKEN_REVOKED");
        assert_eq!(database.count("users WHERE factor_kinds IS NOT NULL").await, 0);

        database.execute("UPDATE sessions SET revoked_at = NULL").await;
        let app = server.enroll(&tokens.access_token).await;
        let strong = server.refresh(&tokens.refresh_token).await.unwrap().access_token;
        database.execute("UPDATE sessions SET revoked_at = 1").await;
        assert_eq!(reason(server.new_recovery_codes(&strong).await), "TOKEN_REVOKED");
        assert_eq!(reason(server.remove_factor(&strong, &app.factor.factor_id).await), "TOKEN_REVOKED");
        database.execute("UPDATE sessions SET revoked_at = NULL").await;
        server.clock.advance(ONE_STEP);
        let challenge = server.challenged(ADA).await;
        server.complete(&challenge, recovery(&app.recovery_codes[0])).await.unwrap();
    }

    async fn after_a_restore_to_before_an_enrollment_the_user_has_no_factor(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (tokens, app) = server.with_app(ADA).await;
        let challenge = server.challenged(ADA).await;
        let used = server.challenged(ADA).await;
        server.complete(&used, recovery(&app.recovery_codes[0])).await.unwrap();
        database.execute(
            "DELETE FROM totp_factors; DELETE FROM recovery_codes; DELETE FROM used_challenges; UPDATE users SET factor_kinds = NULL"
        ).await;
        // A challenge of before opens nothing, used or not.
        for (challenge, proof) in [
            (&challenge, totp(app.code(&server))),
            (&challenge, recovery(&app.recovery_codes[1])),
            (&used, recovery(&app.recovery_codes[0])),
        ] {
            assert_eq!(reason(server.complete(challenge, proof).await), "SECOND_FACTOR_INVALID");
        }
        // The user logs in by the password and enrolls again, by the same session, too.
        server.login(ADA).await.unwrap();
        let app = server.enroll(&tokens.access_token).await;
        assert_eq!(app.recovery_codes.len(), 10);
        server.clock.advance(ONE_STEP);
        server.login_by_app(ADA, &app).await.unwrap();
    }

    async fn logins_during_an_enrollment_open_the_sessions_they_return_and_later_logins_are_challenged(database: TestDatabase, clock: Clock) {
        let servers = servers_at(&database, &[], clock).await;
        let tokens = servers[0].signed_in(ADA).await;
        let logins = (0..24).map(|number| {
            let server = &servers[number % servers.len()];
            let request = LoginRequest {
                email: ADA.to_owned(),
                password: PASSWORD.to_owned(),
                device_label: "race".to_owned(),
                ..LoginRequest::default()
            };
            async move { server.auth().login(request).await.unwrap().into_inner() }
        });
        let enroll = async { servers[0].enroll(&tokens.access_token).await };
        let (answers, _) = tokio::join!(join_all(logins), enroll);
        let opened = answers.iter().filter(|answer| answer.tokens.is_some()).count();
        let opened = i64::try_from(opened).unwrap();
        assert_eq!(database.count("sessions WHERE device_label = 'race'").await, opened);
        // Transactions on the user's row are one after the other, so the moment of the enrollment divides them.
        for server in &servers {
            let after = server.login_whole(ADA, "").await.unwrap();
            assert!(after.tokens.is_none() && after.challenge.is_some());
        }
    }

    async fn rows_of_expired_challenges_are_purged(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (_, app) = server.with_app(ADA).await;
        server.login_by_app(ADA, &app).await.unwrap();
        assert_eq!(database.count("used_challenges").await, 1);
        let store = open_store(&database, &[]);
        let now = server.clock.now();
        store.purge(now + Duration::from_secs(300)).await.unwrap();
        assert_eq!(database.count("used_challenges").await, 1);
        store.purge(now + Duration::from_secs(300 + 3600)).await.unwrap();
        assert_eq!(database.count("used_challenges").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_waited_for_an_enrollment_is_challenged() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let server = TestServer::start(&database).await;
    server.register(ADA).await.unwrap();
    let mut client = database.client().await;
    let enrollment = client.transaction().await.unwrap();
    enrollment
        .execute("UPDATE users SET factor_kinds = 'totp'", &[])
        .await
        .unwrap();
    // It has read that there is no factor, and its password is right.
    let login = server.login_whole(ADA, "");
    let commit = async {
        eventually("the login waits", async || {
            database.waiting_for_locks().await == 1
        })
        .await;
        enrollment.commit().await.unwrap();
    };
    let (answer, ()) = tokio::join!(login, commit);
    let answer = answer.unwrap();
    assert!(answer.tokens.is_none() && answer.challenge.is_some());
    assert_eq!(database.count("sessions").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_factor_is_not_added_if_another_one_was_added_since_the_check() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let server = TestServer::start(&database).await;
    // Of one factor, which is enough while there is none.
    let tokens = server.signed_in(ADA).await;
    let begun = server.begin_totp(&tokens.access_token).await.unwrap();
    let code = code_of(&begun.secret, server.clock.now());
    let mut client = database.client().await;
    let other = client.transaction().await.unwrap();
    other
        .execute("UPDATE users SET factor_kinds = 'passkey'", &[])
        .await
        .unwrap();
    let confirm = server.confirm_totp(&tokens.access_token, &begun.enrollment_token, &code);
    let commit = async {
        let waiting =
            "pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        eventually("the confirmation waits", async || {
            database.count(waiting).await == 1
        })
        .await;
        other.commit().await.unwrap();
    };
    let (answer, ()) = tokio::join!(confirm, commit);
    assert_eq!(reason(answer), "STEP_UP_REQUIRED");
    assert_eq!(database.count("totp_factors").await, 0);
    assert_eq!(database.count("recovery_codes").await, 0);
}

//! AccountService: what users do with their own account, its sessions and its password.

use std::time::Duration;

use countersign::{
    clock::{Clock, ManualClock},
    grpc::pb::{
        ChangePasswordRequest, GetCurrentUserRequest, ListSessionsRequest, ListSessionsResponse,
        RevokeAllSessionsRequest, RevokeSessionRequest, Session, TokenPair, User,
    },
};
use tonic::Status;

use crate::support::{
    PASSWORD, TestDatabase, TestServer, eventually, failure, guesses::delays_within,
    on_both_databases, operator::bearing, reason, server::START,
};

const ADA: &str = "ada@example.org";
const BOB: &str = "bob@example.org";
const NOBODY: &str = "01900000-0000-7000-8000-000000000000";
const NEW_PASSWORD: &str = "an engine that dreams of looms";
const THOUSANDS: i32 = 5_000;

/// The calls, with that access token.
pub struct Account<'a>(pub &'a TestServer, pub &'a str);

impl Account<'_> {
    pub async fn user(&self) -> Result<User, Status> {
        let request = bearing(self.1, GetCurrentUserRequest {});
        let response = self.0.account().get_current_user(request).await?;
        Ok(response.into_inner().user.unwrap())
    }

    pub async fn change_password(&self, current: &str, new: &str) -> Result<TokenPair, Status> {
        let request = ChangePasswordRequest {
            current_password: current.to_owned(),
            new_password: new.to_owned(),
        };
        let request = bearing(self.1, request);
        let response = self.0.account().change_password(request).await?;
        Ok(response.into_inner().tokens.unwrap())
    }

    pub async fn page(&self, size: i32, token: &str) -> Result<ListSessionsResponse, Status> {
        let request = ListSessionsRequest {
            page_size: size,
            page_token: token.to_owned(),
        };
        let request = bearing(self.1, request);
        Ok(self.0.account().list_sessions(request).await?.into_inner())
    }

    pub async fn sessions(&self) -> Result<Vec<Session>, Status> {
        Ok(self.page(0, "").await?.sessions)
    }

    pub async fn revoke(&self, session_id: &str) -> Result<(), Status> {
        let session_id = session_id.to_owned();
        let request = bearing(self.1, RevokeSessionRequest { session_id });
        self.0.account().revoke_session(request).await.map(drop)
    }

    pub async fn revoke_all(&self, keep_current: bool) -> Result<i32, Status> {
        let request = bearing(self.1, RevokeAllSessionsRequest { keep_current });
        let response = self.0.account().revoke_all_sessions(request).await?;
        Ok(response.into_inner().revoked_count)
    }

    /// The reasons for which each call fails.
    async fn reasons(&self) -> [String; 5] {
        [
            reason(self.user().await),
            reason(self.change_password(PASSWORD, NEW_PASSWORD).await),
            reason(self.sessions().await),
            reason(self.revoke(NOBODY).await),
            reason(self.revoke_all(false).await),
        ]
    }
}

/// The fields that a request was refused for.
fn fields(status: &Status) -> Vec<String> {
    let details = failure(status).details;
    let violations = &details.bad_request().unwrap().field_violations;
    let fields = violations.iter().map(|violation| violation.field.clone());
    fields.collect()
}

pub async fn is_revoked(server: &TestServer, tokens: &TokenPair) -> bool {
    match server.validate(&tokens.access_token).await {
        Ok(_) => false,
        Err(status) => failure(&status).reason == "TOKEN_REVOKED",
    }
}

/// All that there is to a session is over on that server.
pub async fn assert_ended(server: &TestServer, tokens: &TokenPair) {
    assert!(is_revoked(server, tokens).await);
    let refreshed = server.refresh(&tokens.refresh_token).await;
    assert_eq!(reason(refreshed), "SESSION_REVOKED");
}

pub async fn assert_live(server: &TestServer, tokens: &TokenPair) {
    server.validate(&tokens.access_token).await.unwrap();
    server.refresh(&tokens.refresh_token).await.unwrap();
}

on_both_databases! {
    async fn only_a_valid_access_token_is_accepted(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let ada = server.signed_in(ADA).await;
        for (token, expected) in [
            ("", "TOKEN_MISSING"),
            ("garbage", "TOKEN_INVALID"),
            (ada.refresh_token.as_str(), "TOKEN_INVALID"),
        ] {
            let reasons = Account(&server, token).reasons().await;
            assert!(reasons.iter().all(|reason| reason == expected), "{reasons:?}");
        }
        // She has no role at all.
        Account(&server, &ada.access_token).user().await.unwrap();
        server.logout(&ada.refresh_token).await.unwrap();
        let reasons = Account(&server, &ada.access_token).reasons().await;
        assert!(reasons.iter().all(|reason| reason == "TOKEN_REVOKED"), "{reasons:?}");
        let ada = server.login(ADA).await.unwrap();
        server.clock.advance(Duration::from_secs(15 * 60));
        let reasons = Account(&server, &ada.access_token).reasons().await;
        assert!(reasons.iter().all(|reason| reason == "TOKEN_EXPIRED"), "{reasons:?}");
        server.login(ADA).await.expect("nothing was done to her");
    }

    async fn the_current_user_is_read_from_the_database(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let registered = server.register(ADA).await.unwrap();
        server.register(BOB).await.unwrap();
        let tokens = server.login(ADA).await.unwrap();
        let account = Account(&server, &tokens.access_token);
        assert_eq!(account.user().await.unwrap(), registered);
        database.execute("UPDATE users SET roles = 'editor' WHERE email_key = 'ada@example.org'").await;
        assert_eq!(account.user().await.unwrap().roles, ["editor"]);
        database.execute("DELETE FROM users WHERE email_key = 'ada@example.org'").await;
        assert_eq!(reason(account.user().await), "USER_NOT_FOUND");
        assert_eq!(reason(account.change_password(PASSWORD, NEW_PASSWORD).await), "USER_NOT_FOUND");
        assert_eq!(reason(account.revoke_all(true).await), "USER_NOT_FOUND");
        assert_eq!(reason(account.revoke_all(false).await), "USER_NOT_FOUND");
    }

    /// The clock stands still: the new tokens bear the millisecond in which the old ones were revoked.
    async fn a_password_change_revokes_all_sessions_and_opens_a_new_one(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let phone = server.signed_in(ADA).await;
        let laptop = server.login(ADA).await.unwrap();
        let bob = server.signed_in(BOB).await;
        let phone = server.refresh(&phone.refresh_token).await.unwrap();

        let account = Account(&server, &phone.access_token);
        let tokens = account.change_password(PASSWORD, NEW_PASSWORD).await.unwrap();

        assert_ended(&server, &phone).await;
        assert_ended(&server, &laptop).await;
        let claims = server.validate(&tokens.access_token).await.unwrap();
        assert_eq!(claims.session_id, tokens.session_id);
        assert_ne!(tokens.session_id, phone.session_id);
        assert_eq!(tokens.token_type, "Bearer");
        let sessions = Account(&server, &tokens.access_token).sessions().await.unwrap();
        assert_eq!(sessions.len(), 1);
        assert_eq!(sessions[0].session_id, tokens.session_id);
        assert_eq!(sessions[0].device_label, "Ada's phone");
        assert!(sessions[0].current);
        let next = server.refresh(&tokens.refresh_token).await.unwrap();
        server.validate(&next.access_token).await.unwrap();

        assert_eq!(reason(server.login(ADA).await), "INVALID_CREDENTIALS");
        let again = server.login_as(ADA, NEW_PASSWORD).await.unwrap();
        assert_live(&server, &again).await;
        assert_live(&server, &bob).await;
    }

    /// A replica whose clock runs ahead has refreshed the session: its tokens lie in the future of the other.
    async fn old_tokens_are_revoked_and_new_ones_valid_although_clocks_differ(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let clock = ManualClock::new(START + Duration::from_secs(30));
        let other = TestServer::try_start(&database, &[], clock).await.unwrap();
        let tokens = server.signed_in(ADA).await;
        let ahead = other.refresh(&tokens.refresh_token).await.unwrap();
        // Its successor again, dated later still.
        other.clock.advance(Duration::from_secs(10));
        let repeated = other.refresh(&tokens.refresh_token).await.unwrap();
        // Back at this one, the session bears its time again.
        let back = server.refresh(&repeated.refresh_token).await.unwrap();
        let account = Account(&server, &ahead.access_token);
        let new = account.change_password(PASSWORD, NEW_PASSWORD).await.unwrap();
        let fresh = server.replica(&[]).await;
        eventually("the other replica hears of it", async || is_revoked(&other, &ahead).await).await;
        for server in [&server, &other, &fresh] {
            for old in [&ahead, &repeated, &back] {
                assert_ended(server, old).await;
            }
            server.validate(&new.access_token).await.unwrap();
        }
        let next = server.refresh(&new.refresh_token).await.unwrap();
        server.validate(&next.access_token).await.unwrap();
        let account = Account(&server, &new.access_token);
        assert_eq!(account.revoke_all(false).await.unwrap(), 1);
        assert_ended(&server, &new).await;
        assert_ended(&server, &next).await;
    }

    async fn a_refused_password_change_leaves_password_and_sessions_as_they_were(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in(ADA).await;
        let account = Account(&server, &tokens.access_token);
        for weak in ["short", "passwordpassword", "ada@example.org Ada"] {
            let status = account.change_password(PASSWORD, weak).await.unwrap_err();
            assert_eq!(failure(&status).reason, "WEAK_PASSWORD", "{weak}");
            assert_eq!(fields(&status), ["new_password"]);
        }
        let status = account.change_password("", "a\0b").await.unwrap_err();
        assert_eq!(failure(&status).reason, "INVALID_FIELD");
        assert_eq!(fields(&status), ["current_password", "new_password"]);
        // Whoever does not know the password does not learn what would be wrong with the new one.
        assert_eq!(reason(account.change_password("not it", "short").await), "INVALID_CREDENTIALS");
        server.login(ADA).await.expect("the password is the old one");
        assert_live(&server, &tokens).await;
    }

    async fn guesses_at_the_current_password_delay_the_session_and_no_login(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in(ADA).await;
        let account = Account(&server, &tokens.access_token);
        for _ in 0..9 {
            assert_eq!(reason(account.change_password("not it", NEW_PASSWORD).await), "INVALID_CREDENTIALS");
        }
        // The current password was right, whatever came after: the counter is reset.
        assert_eq!(reason(account.change_password(PASSWORD, "short").await), "WEAK_PASSWORD");
        assert_eq!(database.count("login_failures").await, 0);
        for _ in 0..10 {
            assert_eq!(reason(account.change_password("not it", NEW_PASSWORD).await), "INVALID_CREDENTIALS");
        }
        let status = account.change_password(PASSWORD, NEW_PASSWORD).await.unwrap_err();
        assert_eq!(failure(&status).reason, "ACCOUNT_THROTTLED");
        assert_eq!(failure(&status).details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
        // Whoever guesses with a stolen access token locks nobody out, of another session neither.
        let other = server.login(ADA).await.expect("logins have a counter of their own");
        let other = Account(&server, &other.access_token);
        assert_eq!(reason(other.change_password("not it", NEW_PASSWORD).await), "INVALID_CREDENTIALS");
        server.clock.advance(Duration::from_secs(1));
        account.change_password(PASSWORD, NEW_PASSWORD).await.unwrap();
    }

    async fn a_stranger_s_failed_logins_do_not_keep_the_owner_from_changing_the_password(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in(ADA).await;
        for _ in 0..10 {
            assert_eq!(reason(server.login_as(ADA, "not it").await), "INVALID_CREDENTIALS");
        }
        assert_eq!(reason(server.login(ADA).await), "ACCOUNT_THROTTLED");
        Account(&server, &tokens.access_token).change_password(PASSWORD, NEW_PASSWORD).await.unwrap();
    }

    async fn parallel_guesses_at_the_current_password_are_each_counted_once(database: TestDatabase, clock: Clock) {
        let server = TestServer::start_at(&database, &[], clock).await;
        let replica = server.replica(&[]).await;
        let tokens = server.signed_in(ADA).await;
        let (here, there) = (Account(&server, &tokens.access_token), Account(&replica, &tokens.access_token));
        let (mut judged, start) = (0, server.now());
        for _ in 0..3 {
            let guesses = (0..20).map(|i| [&here, &there][i % 2].change_password("not it", NEW_PASSWORD));
            for outcome in futures_util::future::join_all(guesses).await {
                match reason(outcome).as_str() {
                    "INVALID_CREDENTIALS" => judged += 1,
                    // One user's changes of the password wait for each other, few at a time.
                    "RATE_LIMITED" | "ACCOUNT_THROTTLED" => {}
                    other => panic!("{other}"),
                }
            }
        }
        let most = 10 + delays_within(server.now().since(start));
        assert!((10..=most).contains(&judged), "{judged}: the limit holds for both replicas together");
        assert_eq!(database.count(&format!("login_failures WHERE failures = {judged}")).await, 1);
        // The delay of the system clock may be over.
        if !server.is_on_system_clock() {
            assert_eq!(reason(here.change_password(PASSWORD, NEW_PASSWORD).await), "ACCOUNT_THROTTLED");
        }
    }

    async fn of_two_concurrent_password_changes_one_succeeds(database: TestDatabase, clock: Clock) {
        let server = TestServer::start_at(&database, &[], clock).await;
        let one = server.signed_in(ADA).await;
        let other = server.login(ADA).await.unwrap();
        let (one, other) = (Account(&server, &one.access_token), Account(&server, &other.access_token));
        let (first, second) = tokio::join!(
            one.change_password(PASSWORD, NEW_PASSWORD),
            other.change_password(PASSWORD, "a loom that hums of engines"),
        );
        let (password, won, lost) = match (first, second) {
            (Ok(won), lost) => (NEW_PASSWORD, won, lost),
            (lost, Ok(won)) => ("a loom that hums of engines", won, lost),
            (first, second) => panic!("{first:?} {second:?}"),
        };
        // The other came while the first was at it, or a moment after.
        let lost = reason(lost);
        assert!(["INVALID_CREDENTIALS", "TOKEN_REVOKED"].contains(&lost.as_str()), "{lost}");
        assert_live(&server, &won).await;
        server.login_as(ADA, password).await.unwrap();
    }

    async fn sessions_are_listed_newest_first(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let mut logins = vec![server.signed_in(ADA).await];
        server.signed_in(BOB).await;
        for _ in 0..6 {
            server.clock.advance(Duration::from_secs(60));
            logins.push(server.login(ADA).await.unwrap());
        }
        server.logout(&logins[5].refresh_token).await.unwrap();
        let gone = logins.remove(5);
        logins[2] = server.refresh(&logins[2].refresh_token).await.unwrap();
        let account = Account(&server, &logins[3].access_token);

        let sessions = account.sessions().await.unwrap();
        let ids: Vec<_> = sessions.iter().map(|session| session.session_id.as_str()).collect();
        let expected: Vec<_> = logins.iter().rev().map(|login| login.session_id.as_str()).collect();
        assert_eq!(ids, expected);
        assert!(!ids.contains(&gone.session_id.as_str()));
        for (session, login) in sessions.iter().zip(logins.iter().rev()) {
            assert_eq!(session.current, session.session_id == logins[3].session_id);
            assert_eq!(session.device_label, "Ada's phone");
            assert_eq!(session.client_ip, "127.0.0.1");
            assert!(session.user_agent.contains("tonic"), "{session:?}");
            assert_eq!(session.expire_time, login.refresh_expire_time);
            let was_refreshed = session.last_refresh_time != session.create_time;
            assert_eq!(was_refreshed, login.session_id == logins[2].session_id);
        }

        let mut paged = Vec::new();
        let mut token = String::new();
        for size in [4, 2] {
            let page = account.page(size, &token).await.unwrap();
            assert_eq!(page.sessions.len(), usize::try_from(size).unwrap());
            paged.extend(page.sessions);
            token = page.next_page_token;
        }
        assert_eq!((paged, token.as_str()), (sessions, ""));
    }

    async fn expired_sessions_are_not_listed(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        server.signed_in(ADA).await;
        server.clock.advance(Duration::from_secs(7 * 24 * 3600));
        let tokens = server.login(ADA).await.unwrap();
        let account = Account(&server, &tokens.access_token);
        let sessions = account.sessions().await.unwrap();
        assert_eq!(sessions.len(), 1);
        assert_eq!(sessions[0].session_id, tokens.session_id);
    }

    async fn invalid_page_parameters_are_refused(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in(ADA).await;
        let account = Account(&server, &tokens.access_token);
        let status = account.page(-1, "no token of ours").await.unwrap_err();
        assert_eq!(failure(&status).reason, "INVALID_FIELD");
        assert_eq!(fields(&status), ["page_size", "page_token"]);
        let made_up = account.page(1, "AAAAAAAAAAAAAAAAAAAAAA").await.unwrap_err();
        assert_eq!(fields(&made_up), ["page_token"]);
        assert_eq!(account.page(i32::MAX, "").await.unwrap().sessions.len(), 1);
    }

    async fn revoking_one_session_leaves_the_others_valid(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let phone = server.signed_in(ADA).await;
        let laptop = server.login(ADA).await.unwrap();
        let bob = server.signed_in(BOB).await;
        let account = Account(&server, &phone.access_token);
        for _ in 0..2 {
            account.revoke(&laptop.session_id).await.unwrap();
            assert_ended(&server, &laptop).await;
        }
        for (session_id, expected) in [
            (bob.session_id.as_str(), "SESSION_NOT_FOUND"),
            (NOBODY, "SESSION_NOT_FOUND"),
            ("", "INVALID_FIELD"),
            ("phone", "INVALID_FIELD"),
        ] {
            assert_eq!(reason(account.revoke(session_id).await), expected, "{session_id:?}");
        }
        assert_live(&server, &bob).await;
        server.validate(&phone.access_token).await.unwrap();
        account.revoke(&phone.session_id).await.unwrap();
        assert_ended(&server, &phone).await;
    }

    async fn revoke_all_keeps_the_current_session_on_request(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let phone = server.signed_in(ADA).await;
        let bob = server.signed_in(BOB).await;
        let logins = [server.login(ADA).await.unwrap(), server.login(ADA).await.unwrap()];
        let logged_out = server.login(ADA).await.unwrap();
        server.logout(&logged_out.refresh_token).await.unwrap();
        let account = Account(&server, &phone.access_token);
        assert_eq!(account.revoke_all(true).await.unwrap(), 2);
        for login in &logins {
            assert_ended(&server, login).await;
        }
        assert_eq!(account.revoke_all(true).await.unwrap(), 0);
        server.validate(&phone.access_token).await.unwrap();
        server.login(ADA).await.unwrap();
        assert_eq!(account.revoke_all(false).await.unwrap(), 2);
        assert_ended(&server, &phone).await;
        assert_live(&server, &bob).await;
    }

    /// Whoever logs in while all sessions are ended has a session that lives with its token, or neither.
    async fn a_login_during_revoke_all_is_either_revoked_or_valid(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let mut kept = server.signed_in(ADA).await;
        for round in 0..20 {
            let account = Account(&server, &kept.access_token);
            // Every other login has a head start, or nearly all of them would come after.
            let ending = async {
                if round % 2 == 1 {
                    eventually("she logs in", async || {
                        database.count("sessions WHERE revoked_at IS NULL").await > 1
                    })
                    .await;
                }
                account.revoke_all(false).await
            };
            let (login, ended) = tokio::join!(server.login(ADA), ending);
            let login = login.unwrap();
            match ended.unwrap() {
                1 => assert_live(&server, &login).await,
                2 => assert_ended(&server, &login).await,
                other => panic!("{other} sessions were ended"),
            }
            assert_ended(&server, &kept).await;
            server.logout(&login.refresh_token).await.unwrap();
            kept = server.login(ADA).await.unwrap();
        }
    }

    async fn revoke_all_ends_thousands_of_sessions(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in(ADA).await;
        let account = Account(&server, &tokens.access_token);
        for keep_current in [true, false] {
            server.clock.advance(Duration::from_secs(1));
            let (now, round) = (server.clock.now().micros(), i32::from(keep_current));
            database.execute(&format!(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {THOUSANDS})
                 INSERT INTO sessions (id, user_id, device_label, client_ip, user_agent, generation,
                                       created_at, rotated_at, idle_expires_at, absolute_expires_at)
                 SELECT '01900000-0000-7000-800{round}-' || CAST(100000000000 + i AS TEXT), users.id, '', '', '', 0,
                        {now}, {now}, {now} + 1000000, {now} + 1000000 FROM n, users"
            )).await;
            assert_eq!(account.revoke_all(keep_current).await.unwrap(), 1_000, "no more are counted");
            let left = i64::from(keep_current);
            eventually("every row is revoked", async || {
                database.count("sessions WHERE revoked_at IS NULL").await == left
            })
            .await;
        }
        let sessions = database.count("revocations WHERE kind = 'session'").await;
        assert_eq!(sessions, i64::from(2 * THOUSANDS + 1));
        let positions = database.count("(SELECT DISTINCT position FROM revocations) AS positions").await;
        assert_eq!(positions, sessions + 1);
    }

    async fn account_changes_are_audited(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in(ADA).await;
        let other = server.login(ADA).await.unwrap();
        let account = Account(&server, &tokens.access_token);
        account.revoke(&other.session_id).await.unwrap();
        server.login(ADA).await.unwrap();
        account.revoke_all(true).await.unwrap();
        account.change_password(PASSWORD, NEW_PASSWORD).await.unwrap();
        for (kind, count) in [("session_revoked", 1), ("user_sessions_revoked", 1), ("password_changed", 1)] {
            let by_herself = format!("audit_events WHERE kind = '{kind}' AND actor_id = user_id");
            assert_eq!(database.count(&by_herself).await, count, "{kind}");
        }
        let session = format!("audit_events WHERE session_id = '{}'", other.session_id);
        assert_eq!(database.count(&session).await, 2, "the login and the end");
    }

    async fn other_replicas_learn_of_revoked_sessions(database: TestDatabase) {
        let one = TestServer::start(&database).await;
        let other = one.replica(&[]).await;
        let phone = one.signed_in(ADA).await;
        let (laptop, tablet) = (one.login(ADA).await.unwrap(), one.login(ADA).await.unwrap());
        let account = Account(&one, &phone.access_token);
        account.revoke(&laptop.session_id).await.unwrap();
        eventually("one session is ended", async || is_revoked(&other, &laptop).await).await;
        account.revoke_all(true).await.unwrap();
        eventually("the others are ended", async || is_revoked(&other, &tablet).await).await;
        other.validate(&phone.access_token).await.unwrap();
        let new = account.change_password(PASSWORD, NEW_PASSWORD).await.unwrap();
        eventually("all are ended", async || is_revoked(&other, &phone).await).await;
        assert_live(&other, &new).await;
    }
}

//! AdminService.GetUser, ListUsers, InviteUser and DeleteUser.

use std::time::Duration;

use countersign::grpc::pb::{
    DeleteUserRequest, GetUserRequest, InviteUserRequest, ListUsersRequest, ListUsersResponse,
    ResetPasswordRequest, User, reauthenticate_request::Proof as Again,
};
use tonic::Status;

use crate::{
    account::Account,
    passkeys::{add_passkey, begin_login, finish_login, passkey_login},
    support::{
        PASSWORD, TestDatabase, TestServer, eventually,
        factors::STEP,
        failure,
        guesses::WRONG,
        mailbox::mail,
        on_both_databases,
        operator::bearing,
        passkey::{TestAuthenticator, encode},
        reason,
    },
};

const ADA: &str = "ada@example.org";
const ROOT: &str = "root@example.org";
const NOBODY: &str = "01900000-0000-7000-8000-000000000000";

impl TestServer {
    pub async fn user_page(
        &self,
        access_token: &str,
        filter: &str,
        page_size: i32,
        page_token: &str,
    ) -> Result<ListUsersResponse, Status> {
        let request = ListUsersRequest {
            page_size,
            page_token: page_token.to_owned(),
            filter: filter.to_owned(),
        };
        Ok(self
            .admin()
            .list_users(bearing(access_token, request))
            .await?
            .into_inner())
    }

    pub async fn get_user(&self, access_token: &str, user_id: &str) -> Result<User, Status> {
        let user_id = user_id.to_owned();
        let request = bearing(access_token, GetUserRequest { user_id });
        Ok(self
            .admin()
            .get_user(request)
            .await?
            .into_inner()
            .user
            .unwrap())
    }

    pub async fn delete_user(&self, access_token: &str, user_id: &str) -> Result<String, Status> {
        let user_id = user_id.to_owned();
        let request = bearing(access_token, DeleteUserRequest { user_id });
        Ok(self
            .admin()
            .delete_user(request)
            .await?
            .into_inner()
            .revocation_cursor)
    }

    pub async fn invite(&self, access_token: &str, email: &str) -> Result<User, Status> {
        let request = InviteUserRequest {
            email: email.to_owned(),
            display_name: "Ada".to_owned(),
            roles: vec!["editor".to_owned()],
        };
        let response = self
            .admin()
            .invite_user(bearing(access_token, request))
            .await?;
        Ok(response.into_inner().user.unwrap())
    }
}

on_both_databases! {
    async fn users_are_found_by_id_and_listed_in_pages_by_a_filter(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let root = server.signed_in_as(ROOT, "admin").await.access_token;
        let mut ids = Vec::new();
        for number in 0..5 {
            server.clock.advance(Duration::from_secs(60));
            ids.push(server.register(&format!("user{number}@example.org")).await.unwrap().user_id);
        }
        database.execute(&format!("UPDATE users SET roles = 'editor x_admin' WHERE id = '{}'", ids[1])).await;
        database.execute(&format!("UPDATE users SET disabled_at = 1 WHERE id = '{}'", ids[2])).await;
        database.execute(&format!("UPDATE users SET email_verified_at = 1 WHERE id = '{}'", ids[3])).await;
        let found = server.get_user(&root, &ids[2]).await.unwrap();
        assert!(found.disabled && found.email == "user2@example.org");
        assert_eq!(reason(server.get_user(&root, NOBODY).await), "USER_NOT_FOUND");
        assert_eq!(reason(server.get_user(&root, "x").await), "INVALID_FIELD");

        let (mut listed, mut token) = (Vec::new(), String::new());
        loop {
            let page = server.user_page(&root, "", 2, &token).await.unwrap();
            listed.extend(page.users);
            token = page.next_page_token;
            if token.is_empty() { break; }
        }
        assert_eq!(listed.iter().map(|user| &user.user_id).skip(1).collect::<Vec<_>>(), ids.iter().collect::<Vec<_>>());
        let since = countersign::clock::Timestamp::from_seconds(server.clock.now().seconds() - 60);
        for (filter, expected) in [
            ("email = \"USER1@Example.org\"".to_owned(), vec![1]),
            ("roles:editor".to_owned(), vec![1]),
            ("roles:dmin".to_owned(), vec![]),
            ("disabled = true".to_owned(), vec![2]),
            ("disabled = false AND email_verified = true".to_owned(), vec![3]),
            (format!("create_time >= {since}"), vec![3, 4]),
            ("email = user1@example.org AND disabled = true".to_owned(), vec![]),
        ] {
            let page = server.user_page(&root, &filter, 0, "").await.unwrap();
            let found: Vec<_> = page.users.iter().map(|user| user.user_id.as_str()).collect();
            let expected: Vec<_> = expected.iter().map(|index: &usize| ids[*index].as_str()).collect();
            assert_eq!(found, expected, "{filter}");
            assert_eq!(page.next_page_token, "");
        }
        let failure = failure(&server.user_page(&root, "password_hash = x", 0, "").await.unwrap_err());
        assert_eq!(failure.reason, "INVALID_FIELD");
        let ada = server.signed_in(ADA).await;
        assert_eq!(reason(server.user_page(&ada.access_token, "", 0, "").await), "INSUFFICIENT_ROLE");
    }

    async fn an_invited_user_sets_the_first_password_by_the_mail(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[("COUNTERSIGN_REGISTRATION", "closed")]).await;
        let root = operator(&server).await;
        let invited = server.invite(&root, ADA).await.unwrap();
        assert_eq!((invited.roles.as_slice(), invited.email_verified), (&["editor".to_owned()][..], false));
        for password in [PASSWORD, "$none$", "!"] {
            assert_eq!(reason(server.login_as(ADA, password).await), "INVALID_CREDENTIALS");
        }
        let token = mail(&database, ADA, "Your new account", 1).await.token();
        let reset = ResetPasswordRequest { reset_token: token.clone(), new_password: PASSWORD.to_owned() };
        server.account().reset_password(reset.clone()).await.unwrap();
        let tokens = server.login(ADA).await.unwrap();
        assert_eq!(server.validate(&tokens.access_token).await.unwrap().roles, ["editor"]);
        assert!(server.get_user(&root, &invited.user_id).await.unwrap().email_verified);
        assert_eq!(reason(server.account().reset_password(reset).await), "ONE_TIME_TOKEN_INVALID");
        assert_eq!(reason(server.invite(&root, "ADA@example.org").await), "EMAIL_TAKEN");
        assert_eq!(reason(server.invite(&root, "no address").await), "INVALID_FIELD");
    }

    async fn an_invitation_ends_with_its_time(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let root = server.signed_in_as(ROOT, "admin").await.access_token;
        server.invite(&root, ADA).await.unwrap();
        let token = mail(&database, ADA, "Your new account", 1).await.token();
        server.clock.advance(Duration::from_secs(7 * 24 * 3600 + 1));
        let reset = ResetPasswordRequest { reset_token: token, new_password: PASSWORD.to_owned() };
        assert_eq!(reason(server.account().reset_password(reset).await), "ONE_TIME_TOKEN_INVALID");
    }

    async fn a_deleted_user_leaves_ids_in_the_audit_trail_and_nothing_else(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let other = server.replica(&[]).await;
        let root = server.signed_in_as(ROOT, "admin").await.access_token;
        let ada = server.signed_in(ADA).await;
        server.login_as(ADA, "not the password of anyone").await.unwrap_err();
        let user_id = other.validate(&ada.access_token).await.unwrap().user_id;
        let cursor = server.delete_user(&root, &user_id).await.unwrap();
        assert!(!cursor.is_empty());
        assert_eq!(reason(server.validate(&ada.access_token).await), "TOKEN_REVOKED");
        eventually("the other replica knows", async || other.validate(&ada.access_token).await.is_err()).await;
        assert_eq!(reason(server.refresh(&ada.refresh_token).await), "SESSION_REVOKED");
        assert_eq!(reason(server.login(ADA).await), "INVALID_CREDENTIALS");
        assert_eq!(reason(server.get_user(&root, &user_id).await), "USER_NOT_FOUND");
        assert_eq!(reason(server.delete_user(&root, &user_id).await), "USER_NOT_FOUND");
        for table in ["users", "sessions"] {
            assert_eq!(database.count(table).await, 1, "{table}: the administrator's");
        }
        assert_eq!(database.count(&format!("mails WHERE user_id = '{user_id}'")).await, 0);
        let filter = format!("subject_id = {user_id}");
        eventually("the refusal is written", async || {
            server.audit_events(&root, &filter).await.iter().any(|event| event.kind == "login_failed")
        }).await;
        let events = server.audit_events(&root, &filter).await;
        assert!(events.iter().any(|event| event.kind == "user_deleted" && !event.actor_id.is_empty()));
        assert!(!format!("{events:?}").contains(ADA));
        let again = server.register(ADA).await.unwrap();
        assert_ne!(again.user_id, user_id);
    }

    async fn a_deleted_user_leaves_no_factor_code_counter_or_mail(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let root = server.signed_in_as(ROOT, "admin").await.access_token;
        let tokens = server.signed_in(ADA).await;
        let app = server.enroll(&tokens.access_token).await;
        let tokens = server.refresh(&tokens.refresh_token).await.unwrap();
        let mut authenticator = TestAuthenticator::new();
        let tokens = add_passkey(&server, &tokens, &mut authenticator, "").await;
        server.clock.advance(Duration::from_secs(STEP));
        let device = passkey_login(&server, "", &mut authenticator).await.unwrap().device_token;
        // One failure on each of the counters: of the account, a device, the password within a session, the codes within
        // sessions, and the passkey.
        for device in ["", device.as_str()] {
            assert_eq!(reason(server.login_with(ADA, WRONG, device).await), "INVALID_CREDENTIALS");
        }
        let changed = Account(&server, &tokens.access_token).change_password(WRONG, "an engine that dreams").await;
        assert_eq!(reason(changed), "INVALID_CREDENTIALS");
        let wrong = Again::TotpCode(app.wrong_code(&server));
        assert_eq!(reason(server.reauthenticate(&tokens.access_token, "", wrong).await), "SECOND_FACTOR_INVALID");
        let begun = begin_login(&server, "").await;
        let mut response = authenticator.get(&begun.request_options_json);
        response["response"]["signature"] = encode(&[0x30, 0x00]).into();
        let refused = finish_login(&server, &begun.challenge_token, &response).await;
        assert_eq!(reason(refused), "SECOND_FACTOR_INVALID");

        let user_id = server.validate(&tokens.access_token).await.unwrap().user_id;
        let mails = format!("mails WHERE user_id = '{user_id}'");
        assert!(database.count(&mails).await > 0, "of the factors");
        for (table, rows) in [("totp_factors", 1), ("passkeys", 1), ("recovery_codes", 10), ("login_failures", 5)] {
            assert_eq!(database.count(table).await, rows, "{table}");
        }
        server.delete_user(&root, &user_id).await.unwrap();
        for table in ["totp_factors", "passkeys", "recovery_codes", "login_failures", &mails] {
            assert_eq!(database.count(table).await, 0, "{table}");
        }
        assert_eq!(reason(passkey_login(&server, "", &mut authenticator).await), "SECOND_FACTOR_INVALID");
    }
}

/// An administrator of a server on which nobody may register.
async fn operator(server: &TestServer) -> String {
    let made = crate::support::process::run_with_input(
        &server.database,
        &["users", "create", ROOT, "--role", "admin"],
        PASSWORD,
    )
    .await;
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    server.login(ROOT).await.unwrap().access_token
}

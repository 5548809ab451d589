//! `COUNTERSIGN_REQUIRE_SECOND_FACTOR`: who must have a second factor and has none may enroll one, and nothing else.

use countersign::grpc::pb::{
    GetCurrentUserRequest, SetUserRolesRequest, TokenPair, reauthenticate_request::Proof as Again,
};

use crate::{
    account::Account,
    support::{PASSWORD, TestDatabase, TestServer, on_both_databases, operator::bearing, reason},
};

const ADA: &str = "ada@example.org";
const BOB: &str = "bob@example.org";
const ALL: [(&str, &str); 1] = [("COUNTERSIGN_REQUIRE_SECOND_FACTOR", "all")];
const ADMINS: [(&str, &str); 1] = [("COUNTERSIGN_REQUIRE_SECOND_FACTOR", "admins")];

/// That the token is good for enrolling alone.
async fn is_for_enrolling(server: &TestServer, tokens: &TokenPair) {
    let token = &tokens.access_token;
    assert_eq!(reason(server.validate(token).await), "STEP_UP_REQUIRED");
    let account = Account(server, token);
    assert_eq!(reason(account.user().await), "STEP_UP_REQUIRED");
    assert_eq!(reason(account.sessions().await), "STEP_UP_REQUIRED");
    assert_eq!(
        reason(
            account
                .change_password(PASSWORD, "another mill that weaves")
                .await
        ),
        "STEP_UP_REQUIRED"
    );
    assert_eq!(
        reason(
            server
                .remove_factor(token, "01900000-0000-7000-8000-000000000000")
                .await
        ),
        "STEP_UP_REQUIRED"
    );
    assert_eq!(
        reason(server.watch(token, "").await.map(drop)),
        "STEP_UP_REQUIRED"
    );
    server.factors(token).await.unwrap();
}

on_both_databases! {
    async fn a_user_without_a_required_factor_may_only_enroll_one(database: TestDatabase) {
        let server = TestServer::start_with(&database, &ALL).await;
        server.register(ADA).await.unwrap();
        let tokens = server.login(ADA).await.unwrap();
        is_for_enrolling(&server, &tokens).await;
        // A refresh and another proof of the password give no more.
        let tokens = server.refresh(&tokens.refresh_token).await.unwrap();
        is_for_enrolling(&server, &tokens).await;
        let again = server.reauthenticate(&tokens.access_token, "", Again::Password(PASSWORD.to_owned())).await.unwrap();
        is_for_enrolling(&server, &again).await;

        server.enroll(&tokens.access_token).await;
        let full = server.refresh(&again.refresh_token).await.unwrap();
        let valid = server.validate(&full.access_token).await.unwrap();
        assert_eq!((valid.acr.as_str(), valid.audiences), ("urn:countersign:acr:2", vec!["countersign".to_owned()]));
        Account(&server, &full.access_token).user().await.unwrap();
    }

    async fn a_session_older_than_the_policy_gets_full_tokens_after_a_code(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (_, app) = server.with_app(ADA).await;
        let bob = server.signed_in(BOB).await;
        let tokens = server.login_by_app(ADA, &app).await.unwrap();
        let weaker = server.reauthenticate(&tokens.access_token, "", Again::Password(PASSWORD.to_owned())).await.unwrap();
        let clock = server.clock.clone();
        server.stop().await;
        let server = TestServer::try_start(&database, &ALL, clock).await.unwrap();
        let bob = server.refresh(&bob.refresh_token).await.unwrap();
        is_for_enrolling(&server, &bob).await;
        let weaker = server.refresh(&weaker.refresh_token).await.unwrap();
        is_for_enrolling(&server, &weaker).await;
        server.clock.advance(std::time::Duration::from_secs(30));
        let code = Again::TotpCode(app.code(&server));
        let full = server.reauthenticate(&weaker.access_token, "", code).await.unwrap();
        server.validate(&full.access_token).await.unwrap();
    }

    async fn under_the_policy_admins_only_administrators_must_enroll(database: TestDatabase) {
        let server = TestServer::start_with(&database, &ADMINS).await;
        let tokens = server.signed_in(BOB).await;
        server.validate(&tokens.access_token).await.unwrap();
        let admin = server.signed_in_as(ADA, "admin").await;
        is_for_enrolling(&server, &admin).await;
        let user_id = server.core.users().find_by_email(&countersign::domain::Email::parse("email", BOB).unwrap()).await.unwrap().id.to_string();
        let request = SetUserRolesRequest { user_id, roles: vec!["admin".to_owned()] };
        let refused = server.admin().set_user_roles(bearing(&admin.access_token, request.clone())).await;
        assert_eq!(reason(refused), "STEP_UP_REQUIRED");
        server.enroll(&admin.access_token).await;
        let admin = server.refresh(&admin.refresh_token).await.unwrap();
        server.admin().set_user_roles(bearing(&admin.access_token, request)).await.unwrap();
        // Who becomes an administrator must from the next token on.
        server.validate(&tokens.access_token).await.unwrap();
        let next = server.refresh(&tokens.refresh_token).await.unwrap();
        is_for_enrolling(&server, &next).await;
    }

    async fn a_token_for_enrolling_ends_with_its_session(database: TestDatabase) {
        let server = TestServer::start_with(&database, &ALL).await;
        server.register(ADA).await.unwrap();
        let tokens = server.login(ADA).await.unwrap();
        server.logout(&tokens.refresh_token).await.unwrap();
        assert_eq!(reason(server.begin_totp(&tokens.access_token).await), "TOKEN_REVOKED");
        // No other factor helps, so none is asked for.
        assert_eq!(reason(server.validate(&tokens.access_token).await), "TOKEN_REVOKED");
        let tokens = server.login(ADA).await.unwrap();
        server.clock.advance(std::time::Duration::from_secs(3600));
        assert_eq!(reason(server.begin_totp(&tokens.access_token).await), "TOKEN_EXPIRED");
        assert_eq!(reason(server.validate(&tokens.access_token).await), "TOKEN_EXPIRED");
        assert_eq!(reason(server.begin_totp("nonsense").await), "TOKEN_INVALID");
        let request = bearing("", GetCurrentUserRequest {});
        assert_eq!(reason(server.account().get_current_user(request).await), "TOKEN_MISSING");
    }
}

//! Audiences that a login or a refresh asks for (RFC 8707): never more than were configured, nor than were chosen.

use countersign::grpc::pb::{ChangePasswordRequest, LoginRequest, RefreshRequest, TokenPair};
use tonic::{Code, Status};

use crate::support::{
    PASSWORD, TestDatabase, TestServer, failure, on_both_databases, operator::bearing, reason,
};

const THREE: &[(&str, &str)] = &[("COUNTERSIGN_AUDIENCES", "api,billing,search")];

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

async fn login(server: &TestServer, audiences: &[&str]) -> Result<TokenPair, Status> {
    let request = LoginRequest {
        email: "ada@example.org".to_owned(),
        password: PASSWORD.to_owned(),
        audiences: names(audiences),
        ..Default::default()
    };
    Ok(server
        .auth()
        .login(request)
        .await?
        .into_inner()
        .tokens
        .unwrap())
}

async fn refresh(
    server: &TestServer,
    token: &str,
    audiences: &[&str],
) -> Result<TokenPair, Status> {
    let request = RefreshRequest {
        refresh_token: token.to_owned(),
        audiences: names(audiences),
    };
    Ok(server
        .auth()
        .refresh(request)
        .await?
        .into_inner()
        .tokens
        .unwrap())
}

async fn audiences_of(server: &TestServer, tokens: &TokenPair) -> Vec<String> {
    server
        .validate(&tokens.access_token)
        .await
        .unwrap()
        .audiences
}

/// Refused for the field, with nothing else said.
fn assert_not_allowed(status: &Status) {
    let failure = failure(status);
    assert_eq!(
        (failure.code, failure.reason.as_str()),
        (Code::InvalidArgument, "INVALID_FIELD")
    );
    let fields = &failure.details.bad_request().unwrap().field_violations;
    assert_eq!((fields.len(), fields[0].field.as_str()), (1, "audiences"));
    assert_eq!(fields[0].reason, "NOT_ALLOWED");
}

on_both_databases! {
    async fn audiences_requested_at_login_apply_to_all_tokens_of_the_session(database: TestDatabase) {
        let server = TestServer::start_with(&database, THREE).await;
        server.register("ada@example.org").await.unwrap();
        let all = login(&server, &[]).await.unwrap();
        assert_eq!(audiences_of(&server, &all).await, ["api", "billing", "search"]);
        let some = login(&server, &["search", "api", "api"]).await.unwrap();
        assert_eq!(audiences_of(&server, &some).await, ["api", "search"]);
        let next = refresh(&server, &some.refresh_token, &[]).await.unwrap();
        assert_eq!(audiences_of(&server, &next).await, ["api", "search"]);
        // The repetition of a lost response as well.
        let again = refresh(&server, &some.refresh_token, &[]).await.unwrap();
        assert_eq!(audiences_of(&server, &again).await, ["api", "search"]);
    }

    async fn fewer_audiences_in_a_refresh_apply_to_one_access_token_only(database: TestDatabase) {
        let server = TestServer::start_with(&database, THREE).await;
        server.register("ada@example.org").await.unwrap();
        let first = login(&server, &["api", "search"]).await.unwrap();
        let narrow = refresh(&server, &first.refresh_token, &["search"]).await.unwrap();
        assert_eq!(audiences_of(&server, &narrow).await, ["search"]);
        let again = refresh(&server, &first.refresh_token, &["api"]).await.unwrap();
        assert_eq!(again.refresh_token, narrow.refresh_token, "a retry that asks for another part");
        assert_eq!(audiences_of(&server, &again).await, ["api"]);
        let other = refresh(&server, &narrow.refresh_token, &["api"]).await.unwrap();
        assert_eq!(audiences_of(&server, &other).await, ["api"]);
        let whole = refresh(&server, &other.refresh_token, &[]).await.unwrap();
        assert_eq!(audiences_of(&server, &whole).await, ["api", "search"]);
    }

    async fn audiences_that_are_not_configured_or_not_requested_at_login_are_refused(database: TestDatabase) {
        let server = TestServer::start_with(&database, THREE).await;
        server.register("ada@example.org").await.unwrap();
        for audiences in [["payroll"].as_slice(), &["api", ""], &["API"]] {
            assert_not_allowed(&login(&server, audiences).await.unwrap_err());
        }
        let sessions = database.count("sessions").await;
        assert_eq!(sessions, 0);
        let tokens = login(&server, &["api"]).await.unwrap();
        for audiences in [["payroll"].as_slice(), &["billing"], &["api", "search"]] {
            assert_not_allowed(&refresh(&server, &tokens.refresh_token, audiences).await.unwrap_err());
        }
        assert_eq!(database.count("sessions WHERE generation = 0").await, 1, "nothing was rotated");
        // Whoever holds no refresh token learns nothing by it.
        assert_eq!(reason(refresh(&server, "csr_x", &["payroll"]).await), "REFRESH_TOKEN_INVALID");
        refresh(&server, &tokens.refresh_token, &["api"]).await.unwrap();
    }

    async fn a_new_password_keeps_the_audiences_of_the_session(database: TestDatabase) {
        let server = TestServer::start_with(&database, THREE).await;
        server.register("ada@example.org").await.unwrap();
        let tokens = login(&server, &["billing"]).await.unwrap();
        let request = ChangePasswordRequest {
            current_password: PASSWORD.to_owned(),
            new_password: "another mill that weaves".to_owned(),
        };
        let changed = server.account().change_password(bearing(&tokens.access_token, request)).await;
        let changed = changed.unwrap().into_inner().tokens.unwrap();
        assert_eq!(audiences_of(&server, &changed).await, ["billing"]);
        let next = refresh(&server, &changed.refresh_token, &[]).await.unwrap();
        assert_eq!(audiences_of(&server, &next).await, ["billing"]);
    }

    async fn a_session_whose_audiences_are_no_longer_configured_is_refused(database: TestDatabase) {
        let server = TestServer::start_with(&database, THREE).await;
        server.register("ada@example.org").await.unwrap();
        let both = login(&server, &["api", "billing"]).await.unwrap();
        let one = login(&server, &["billing"]).await.unwrap();
        let fewer = server.replica(&[("COUNTERSIGN_AUDIENCES", "api,reports")]).await;
        let next = refresh(&fewer, &both.refresh_token, &[]).await.unwrap();
        assert_eq!(audiences_of(&fewer, &next).await, ["api"], "less, and never more");
        assert_eq!(reason(refresh(&fewer, &one.refresh_token, &[]).await), "SESSION_REVOKED");
    }
}

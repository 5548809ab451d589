//! A role that was taken away is in no token issued afterwards, and a token issued before does not administer.

use std::time::Duration;

use countersign::grpc::pb::{
    ChangePasswordRequest, EnableUserRequest, RevokeUserSessionsRequest, SetUserRolesRequest,
    TokenPair,
};
use tokio::time::sleep;
use tonic::Status;

use crate::support::{
    PASSWORD, TestDatabase, TestServer, failure, on_both_databases, operator::bearing, reason,
};

const ROOT: &str = "root@example.org";
const EVE: &str = "eve@example.org";
const ROUNDS: u64 = 20;

/// A password hash that takes some milliseconds: the role is taken away while it is computed.
const SLOW_HASH: [(&str, &str); 1] = [("COUNTERSIGN_ARGON2_MEMORY_KIB", "4096")];

async fn set_roles(
    server: &TestServer,
    token: &str,
    user_id: &str,
    roles: &[&str],
) -> Result<(), Status> {
    let request = SetUserRolesRequest {
        user_id: user_id.to_owned(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
    };
    let request = bearing(token, request);
    server.admin().set_user_roles(request).await.map(drop)
}

async fn revoke_sessions(server: &TestServer, token: &str, user_id: &str) {
    let user_id = user_id.to_owned();
    let request = bearing(token, RevokeUserSessionsRequest { user_id });
    server.admin().revoke_user_sessions(request).await.unwrap();
}

async fn change_password(
    server: &TestServer,
    token: &str,
    current: &str,
    new: &str,
) -> Result<TokenPair, Status> {
    let request = ChangePasswordRequest {
        current_password: current.to_owned(),
        new_password: new.to_owned(),
    };
    let mut account = server.account();
    let response = account.change_password(bearing(token, request)).await?;
    Ok(response.into_inner().tokens.unwrap())
}

/// What administrators can do, done by the holder of `token` to himself.
async fn administer(server: &TestServer, token: &str, user_id: &str) -> Result<(), Status> {
    let user_id = user_id.to_owned();
    let request = bearing(token, EnableUserRequest { user_id });
    server.admin().enable_user(request).await.map(drop)
}

/// A token issued while the role was taken away is revoked or does not hold the role.
async fn assert_role_is_gone(server: &TestServer, tokens: &TokenPair, user_id: &str) {
    match server.validate(&tokens.access_token).await {
        Ok(valid) => assert_eq!(valid.roles, Vec::<String>::new()),
        Err(status) => assert_eq!(failure(&status).reason, "TOKEN_REVOKED"),
    }
    let refused = reason(administer(server, &tokens.access_token, user_id).await);
    assert!(
        matches!(refused.as_str(), "INSUFFICIENT_ROLE" | "TOKEN_REVOKED"),
        "{refused}"
    );
}

on_both_databases! {
    async fn a_login_in_progress_gets_no_role_that_is_revoked_concurrently(database: TestDatabase) {
        let server = TestServer::start_on_system_clock(&database, &SLOW_HASH).await;
        let root = server.signed_in_as(ROOT, "admin").await.access_token;
        let eve = server.register(EVE).await.unwrap().user_id;
        for round in 0..ROUNDS {
            set_roles(&server, &root, &eve, &["admin"]).await.unwrap();
            let take_away = async {
                sleep(Duration::from_millis(round)).await;
                set_roles(&server, &root, &eve, &[]).await.unwrap();
                revoke_sessions(&server, &root, &eve).await;
            };
            let (login, ()) = tokio::join!(server.login(EVE), take_away);
            assert_role_is_gone(&server, &login.unwrap(), &eve).await;
        }
    }

    async fn a_refresh_in_progress_gets_no_role_that_is_revoked_concurrently(database: TestDatabase) {
        let server = TestServer::start_on_system_clock(&database, &[]).await;
        let root = server.signed_in_as(ROOT, "admin").await.access_token;
        let eve = server.register(EVE).await.unwrap().user_id;
        for round in 0..ROUNDS {
            set_roles(&server, &root, &eve, &["admin"]).await.unwrap();
            let tokens = server.login(EVE).await.unwrap();
            let take_away = async {
                sleep(Duration::from_micros(round * 300)).await;
                set_roles(&server, &root, &eve, &[]).await.unwrap();
                revoke_sessions(&server, &root, &eve).await;
            };
            let (refreshed, ()) = tokio::join!(server.refresh(&tokens.refresh_token), take_away);
            match refreshed {
                Ok(pair) => assert_role_is_gone(&server, &pair, &eve).await,
                Err(status) => assert_eq!(failure(&status).reason, "SESSION_REVOKED"),
            }
        }
    }

    async fn a_change_of_password_in_progress_gets_no_role_that_is_revoked_concurrently(database: TestDatabase) {
        let server = TestServer::start_on_system_clock(&database, &SLOW_HASH).await;
        let root = server.signed_in_as(ROOT, "admin").await.access_token;
        let eve = server.register(EVE).await.unwrap().user_id;
        let mut current = PASSWORD.to_owned();
        for round in 0..ROUNDS {
            set_roles(&server, &root, &eve, &["admin"]).await.unwrap();
            let tokens = server.login_as(EVE, &current).await.unwrap();
            let next = format!("a loom that weaves algebra {round}");
            let take_away = async {
                sleep(Duration::from_millis(round * 2)).await;
                set_roles(&server, &root, &eve, &[]).await.unwrap();
                revoke_sessions(&server, &root, &eve).await;
            };
            let change = change_password(&server, &tokens.access_token, &current, &next);
            let (changed, ()) = tokio::join!(change, take_away);
            assert_role_is_gone(&server, &changed.unwrap(), &eve).await;
            current = next;
        }
    }

    async fn an_administrator_without_the_role_in_the_database_is_refused(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let root = server.signed_in_as(ROOT, "admin").await.access_token;
        let other = server.signed_in_as(EVE, "admin").await.access_token;
        let eve = server.validate(&other).await.unwrap().user_id;
        administer(&server, &other, &eve).await.unwrap();
        set_roles(&server, &root, &eve, &["verifier"]).await.unwrap();
        // The token still has the role `admin`, which other services may accept; this service does not.
        assert_eq!(server.validate(&other).await.unwrap().roles, ["admin"]);
        assert_eq!(reason(set_roles(&server, &other, &eve, &["admin"]).await), "INSUFFICIENT_ROLE");
        set_roles(&server, &root, &eve, &["admin", "verifier"]).await.unwrap();
        administer(&server, &other, &eve).await.unwrap();

        database.execute("UPDATE users SET disabled_at = 1 WHERE email_key = 'eve@example.org'").await;
        assert_eq!(reason(administer(&server, &other, &eve).await), "TOKEN_REVOKED");
        administer(&server, &root, &eve).await.unwrap();
    }
}

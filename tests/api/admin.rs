//! AdminService: who may call it, and what it does to users and keys.

use std::time::Duration;

use countersign::grpc::pb::{
    DisableUserRequest, EnableUserRequest, RevokeUserSessionsRequest, RotateSigningKeyRequest,
    SetUserRolesRequest, SigningKey, User,
};
use tonic::{Code, Status};

use crate::support::{
    TestDatabase, TestServer, failure, on_both_databases, operator::bearing, reason,
};

const ADMIN: &str = "root@example.org";
const ADA: &str = "ada@example.org";
const NOBODY: &str = "01900000-0000-7000-8000-000000000000";

/// The calls, as an administrator with that access token.
struct Admin<'a>(&'a TestServer, &'a str);

impl Admin<'_> {
    async fn rotate(&self, emergency: bool) -> Result<SigningKey, Status> {
        let request = bearing(self.1, RotateSigningKeyRequest { emergency });
        let response = self.0.admin().rotate_signing_key(request).await?;
        Ok(response.into_inner().signing_key.unwrap())
    }

    async fn disable(&self, user_id: &str) -> Result<User, Status> {
        let user_id = user_id.to_owned();
        let request = bearing(self.1, DisableUserRequest { user_id });
        let response = self.0.admin().disable_user(request).await?;
        Ok(response.into_inner().user.unwrap())
    }

    async fn enable(&self, user_id: &str) -> Result<User, Status> {
        let user_id = user_id.to_owned();
        let request = bearing(self.1, EnableUserRequest { user_id });
        let response = self.0.admin().enable_user(request).await?;
        Ok(response.into_inner().user.unwrap())
    }

    async fn revoke_sessions(&self, user_id: &str) -> Result<i32, Status> {
        let user_id = user_id.to_owned();
        let request = bearing(self.1, RevokeUserSessionsRequest { user_id });
        let response = self.0.admin().revoke_user_sessions(request).await?;
        Ok(response.into_inner().revoked_count)
    }

    async fn set_roles(&self, user_id: &str, roles: &[&str]) -> Result<User, Status> {
        let request = SetUserRolesRequest {
            user_id: user_id.to_owned(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        };
        let response = self
            .0
            .admin()
            .set_user_roles(bearing(self.1, request))
            .await?;
        Ok(response.into_inner().user.unwrap())
    }

    /// The reasons for which each call fails.
    async fn reasons(&self, user_id: &str) -> [String; 5] {
        [
            reason(self.rotate(false).await),
            reason(self.disable(user_id).await),
            reason(self.enable(user_id).await),
            reason(self.revoke_sessions(user_id).await),
            reason(self.set_roles(user_id, &["editor"]).await),
        ]
    }
}

on_both_databases! {
    async fn only_administrators_may_call(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let ada = server.register(ADA).await.unwrap().user_id;
        let verifier = server.signed_in_as("gateway@example.org", "editor verifier").await;
        for (token, expected) in [
            ("", "TOKEN_MISSING"),
            ("garbage", "TOKEN_INVALID"),
            (verifier.refresh_token.as_str(), "TOKEN_INVALID"),
            (verifier.access_token.as_str(), "INSUFFICIENT_ROLE"),
        ] {
            let reasons = Admin(&server, token).reasons(&ada).await;
            assert!(reasons.iter().all(|reason| reason == expected), "{reasons:?}");
        }
        let admin = server.signed_in_as(ADMIN, "admin").await;
        Admin(&server, &admin.access_token).enable(&ada).await.unwrap();
        server.logout(&admin.refresh_token).await.unwrap();
        let reasons = Admin(&server, &admin.access_token).reasons(&ada).await;
        assert!(reasons.iter().all(|reason| reason == "TOKEN_REVOKED"), "{reasons:?}");
        let admin = server.login(ADMIN).await.unwrap();
        server.clock.advance(Duration::from_secs(15 * 60));
        let reasons = Admin(&server, &admin.access_token).reasons(&ada).await;
        assert!(reasons.iter().all(|reason| reason == "TOKEN_EXPIRED"), "{reasons:?}");
        server.login(ADA).await.expect("nothing was done to her");
    }

    async fn unknown_users_and_malformed_ids_have_different_reasons(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let token = server.signed_in_as(ADMIN, "admin").await.access_token;
        let admin = Admin(&server, &token);
        for (user_id, expected) in [(NOBODY, "USER_NOT_FOUND"), ("", "INVALID_FIELD"), ("ada", "INVALID_FIELD")] {
            for found in [
                reason(admin.disable(user_id).await),
                reason(admin.enable(user_id).await),
                reason(admin.revoke_sessions(user_id).await),
                reason(admin.set_roles(user_id, &[]).await),
            ] {
                assert_eq!(found, expected, "{user_id:?}");
            }
        }
        let status = admin.disable(NOBODY).await.unwrap_err();
        assert_eq!(failure(&status).code, Code::NotFound);
        let too_many = vec!["editor"; 65];
        for roles in [&["Editor"][..], &["two words"], &[""], &["editor", "a\0b"], &too_many] {
            let status = admin.set_roles("ada", roles).await.unwrap_err();
            let details = failure(&status).details;
            let fields = &details.bad_request().unwrap().field_violations;
            let fields: Vec<_> = fields.iter().map(|violation| violation.field.as_str()).collect();
            assert_eq!(fields, ["user_id", "roles"]);
        }
    }

    async fn a_disabled_user_cannot_log_in_until_enabled(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let token = server.signed_in_as(ADMIN, "admin").await.access_token;
        let admin = Admin(&server, &token);
        let user_id = server.register(ADA).await.unwrap().user_id;
        let tokens = server.login(ADA).await.unwrap();
        for _ in 0..2 {
            let user = admin.disable(&user_id).await.unwrap();
            assert!(user.disabled);
            assert_eq!((user.user_id.as_str(), user.email.as_str()), (user_id.as_str(), ADA));
        }
        assert_eq!(reason(server.validate(&tokens.access_token).await), "TOKEN_REVOKED");
        assert_eq!(reason(server.refresh(&tokens.refresh_token).await), "SESSION_REVOKED");
        assert_eq!(reason(server.login(ADA).await), "INVALID_CREDENTIALS");
        for _ in 0..2 {
            assert!(!admin.enable(&user_id).await.unwrap().disabled);
        }
        assert_eq!(reason(server.validate(&tokens.access_token).await), "TOKEN_REVOKED");
        let tokens = server.login(ADA).await.unwrap();
        server.validate(&tokens.access_token).await.unwrap();
    }

    async fn revoke_user_sessions_counts_them_and_allows_new_logins(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let token = server.signed_in_as(ADMIN, "admin").await.access_token;
        let admin = Admin(&server, &token);
        let user_id = server.register(ADA).await.unwrap().user_id;
        let sessions = [server.login(ADA).await.unwrap(), server.login(ADA).await.unwrap()];
        assert_eq!(admin.revoke_sessions(&user_id).await.unwrap(), 2);
        for tokens in &sessions {
            assert_eq!(reason(server.validate(&tokens.access_token).await), "TOKEN_REVOKED");
            assert_eq!(reason(server.refresh(&tokens.refresh_token).await), "SESSION_REVOKED");
        }
        assert_eq!(admin.revoke_sessions(&user_id).await.unwrap(), 0);
        let tokens = server.login(ADA).await.unwrap();
        server.validate(&tokens.access_token).await.unwrap();
    }

    async fn set_user_roles_takes_effect_with_the_next_token(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let token = server.signed_in_as(ADMIN, "admin").await.access_token;
        let admin = Admin(&server, &token);
        let user_id = server.register(ADA).await.unwrap().user_id;
        let tokens = server.login(ADA).await.unwrap();
        let user = admin.set_roles(&user_id, &["verifier", "editor", "editor"]).await.unwrap();
        assert_eq!(user.roles, ["editor", "verifier"]);
        let next = server.refresh(&tokens.refresh_token).await.unwrap();
        let claims = server.validate(&next.access_token).await.unwrap();
        assert_eq!(claims.roles, ["editor", "verifier"]);
        assert!(admin.set_roles(&user_id, &[]).await.unwrap().roles.is_empty());
        let next = server.refresh(&next.refresh_token).await.unwrap();
        assert!(server.validate(&next.access_token).await.unwrap().roles.is_empty());
    }

    async fn an_ordinary_key_rotation_publishes_a_key_and_keeps_tokens_valid(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let token = server.signed_in_as(ADMIN, "admin").await.access_token;
        let admin = Admin(&server, &token);
        let key = admin.rotate(false).await.unwrap();
        assert_eq!(key.algorithm, "ES256");
        let now = server.clock.now().seconds();
        // Not before a verifier has read it that keeps the JWKS for ten minutes, as Envoy does.
        assert!(key.activate_time.unwrap().seconds >= now + 900);
        assert!(server.jwks().await.jwks_json.contains(&key.kid));
        assert_eq!(admin.rotate(false).await.unwrap(), key, "one that waits is returned again");
        server.validate(&token).await.unwrap();
    }

    async fn an_emergency_key_rotation_invalidates_access_tokens_but_no_session(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in_as(ADMIN, "admin").await;
        let before = server.jwks().await.jwks_json;
        let key = Admin(&server, &tokens.access_token).rotate(true).await.unwrap();
        assert_eq!(key.activate_time.unwrap().seconds, server.clock.now().seconds());
        let after = server.jwks().await.jwks_json;
        assert!(after.contains(&key.kid) && !before.contains(&key.kid));
        assert_eq!(after.matches("\"kid\"").count(), 1);
        assert_eq!(reason(server.validate(&tokens.access_token).await), "TOKEN_INVALID");
        assert_eq!(reason(Admin(&server, &tokens.access_token).rotate(true).await), "TOKEN_INVALID");
        let next = server.refresh(&tokens.refresh_token).await.unwrap();
        server.validate(&next.access_token).await.unwrap();
    }

    async fn the_audit_trail_names_the_administrator(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let root = server.signed_in_as(ADMIN, "admin").await;
        let root_id = server.validate(&root.access_token).await.unwrap().user_id;
        let admin = Admin(&server, &root.access_token);
        let user_id = server.register(ADA).await.unwrap().user_id;
        server.login(ADA).await.unwrap();
        admin.set_roles(&user_id, &["editor"]).await.unwrap();
        admin.revoke_sessions(&user_id).await.unwrap();
        admin.disable(&user_id).await.unwrap();
        admin.enable(&user_id).await.unwrap();
        for kind in ["user_roles_changed", "user_sessions_revoked", "user_disabled", "user_enabled"] {
            let events = database.count(&format!(
                "audit_events
                 WHERE kind = '{kind}' AND actor_id = '{root_id}' AND user_id = '{user_id}'"
            )).await;
            assert_eq!(events, 1, "{kind}");
        }
        admin.rotate(false).await.unwrap();
        admin.rotate(true).await.unwrap();
        let rotations = database.count(&format!(
            "audit_events WHERE kind LIKE 'signing_key%' AND actor_id = '{root_id}'"
        )).await;
        assert_eq!(rotations, 2);
        let of_herself = database.count(&format!(
            "audit_events WHERE kind = 'user_registered' AND user_id = '{user_id}' AND actor_id IS NULL"
        )).await;
        assert_eq!(of_herself, 1);
    }
}

/// Administration needs the database; the feed and the keys do not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_database_admin_calls_fail_and_the_feed_continues() {
    let database = TestDatabase::create(crate::support::Kind::Postgres).await;
    let proxy = crate::support::proxy::Proxy::before(&database.url).await;
    let server =
        TestServer::start_with(&database, &[("COUNTERSIGN_DATABASE_URL", &proxy.url)]).await;
    let token = server.signed_in_as(ADMIN, "admin").await.access_token;
    proxy.cut();
    let admin = Admin(&server, &token);
    for _ in 0..3 {
        let failed = reason(admin.disable(NOBODY).await);
        assert_eq!(failed, "DATABASE_UNAVAILABLE");
    }
    assert_eq!(reason(admin.rotate(true).await), "DATABASE_UNAVAILABLE");
    server.validate(&token).await.unwrap();
    assert!(server.jwks().await.jwks_json.contains("\"kid\""));
    let mut watcher = server.watch(&token, "").await.unwrap();
    watcher.until(|heard| heard.is_complete).await;
    watcher.cursor().await;
}

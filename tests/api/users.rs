//! What administrators do to users, and `countersign users`, which does it from the command line.

use std::time::Duration;

use countersign::{
    auth::{AuthError, RequestContext},
    domain::{Role, Roles, UserId},
};

use crate::{
    revocation::administration,
    support::{
        TestDatabase, TestServer, eventually, on_both_databases,
        process::{TestProcess, run},
        reason,
    },
};

async fn user_id(server: &TestServer, access_token: &str) -> UserId {
    let valid = server.validate(access_token).await.unwrap();
    valid.user_id.parse().unwrap()
}

on_both_databases! {
    async fn a_disabled_user_is_rejected_at_once_and_can_be_enabled_again(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        let ada = user_id(&server, &tokens.access_token).await;
        let admin = administration(&server);
        let context = RequestContext::default();
        // Twice succeeds twice.
        for _ in 0..2 {
            let user = admin.disable_user(ada, &context).await.unwrap().outcome;
            assert!(user.disabled_at.is_some());
            assert_eq!(reason(server.login("ada@example.org").await), "INVALID_CREDENTIALS");
            assert_eq!(reason(server.refresh(&tokens.refresh_token).await), "SESSION_REVOKED");
        }
        eventually("the token is revoked", async || server.validate(&tokens.access_token).await.is_err()).await;
        for _ in 0..2 {
            assert_eq!(admin.enable_user(ada, &context).await.unwrap().disabled_at, None);
        }
        let again = server.login("ada@example.org").await.unwrap();
        server.validate(&again.access_token).await.unwrap();
        server.refresh(&again.refresh_token).await.unwrap();
        assert_eq!(reason(server.refresh(&tokens.refresh_token).await), "SESSION_REVOKED");
        assert_eq!(reason(server.validate(&tokens.access_token).await), "TOKEN_REVOKED");
    }

    async fn revoking_the_sessions_of_a_user_leaves_other_users_alone(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let first = server.signed_in("ada@example.org").await;
        let second = server.login("ada@example.org").await.unwrap();
        let other = server.signed_in("eve@example.org").await;
        let ada = user_id(&server, &first.access_token).await;
        let count = administration(&server).revoke_user_sessions(ada, None, &RequestContext::default()).await;
        assert_eq!(count.unwrap().outcome, 2);
        for tokens in [&first, &second] {
            eventually("the token is revoked", async || server.validate(&tokens.access_token).await.is_err()).await;
            assert_eq!(reason(server.refresh(&tokens.refresh_token).await), "SESSION_REVOKED");
        }
        server.validate(&other.access_token).await.unwrap();
        server.refresh(&other.refresh_token).await.unwrap();
        let again = server.login("ada@example.org").await.unwrap();
        server.validate(&again.access_token).await.unwrap();
    }

    async fn a_revoker_whose_clock_was_set_back_still_revokes_every_token(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        let ada = user_id(&server, &tokens.access_token).await;
        let replica = TestServer::try_start(
            &database,
            &[],
            countersign::clock::ManualClock::new(server.clock.now() - Duration::from_secs(3600)),
        ).await.unwrap();
        let admin = administration(&replica);
        admin.revoke_user_sessions(ada, None, &RequestContext::default()).await.unwrap();
        eventually("the token is revoked", async || server.validate(&tokens.access_token).await.is_err()).await;
        assert_eq!(reason(server.validate(&tokens.access_token).await), "TOKEN_REVOKED");
    }

    async fn roles_are_in_the_next_access_token(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        let ada = user_id(&server, &tokens.access_token).await;
        let admin = administration(&server);
        let context = RequestContext::default();
        let role = |name: &str| Role::parse(name).unwrap();
        for name in ["verifier", "admin", "admin"] {
            admin.grant_role(ada, &role(name), &context).await.unwrap();
        }
        let tokens = server.refresh(&tokens.refresh_token).await.unwrap();
        let valid = server.validate(&tokens.access_token).await.unwrap();
        assert_eq!(valid.roles, ["admin", "verifier"]);
        server.signed_in_as("root@example.org", "admin").await;
        let user = admin.revoke_role(ada, &role("admin"), &context).await.unwrap();
        assert_eq!(user.roles.to_stored(), "verifier");
        let roles = Roles::new(vec![role("editor")]);
        let user = admin.set_roles(ada, roles.clone(), &context).await.unwrap();
        assert_eq!(user.roles, roles);
        // Many at once: none is lost.
        let grants = (0..16).map(|number| {
            let (admin, context, role) = (&admin, &context, role(&format!("r{number}")));
            async move { admin.grant_role(ada, &role, context).await.unwrap() }
        });
        futures_util::future::join_all(grants).await;
        assert_eq!(admin.find(ada).await.unwrap().roles.names().count(), 17);
    }

    async fn an_unknown_user_is_not_found(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let admin = administration(&server);
        let nobody = UserId::generate(server.clock.now());
        let context = RequestContext::default();
        let role = Role::parse("admin").unwrap();
        let failures = [
            admin.disable_user(nobody, &context).await.unwrap_err(),
            admin.enable_user(nobody, &context).await.unwrap_err(),
            admin.revoke_user_sessions(nobody, None, &context).await.unwrap_err(),
            admin.grant_role(nobody, &role, &context).await.unwrap_err(),
        ];
        for failure in failures {
            assert!(matches!(failure, AuthError::UserNotFound), "{failure}");
        }
    }

    async fn the_command_line_changes_users_of_a_running_server(database: TestDatabase) {
        let server = TestProcess::start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        let users = async |arguments: &[&str]| {
            let output = run(&database, &[], &[&["users"], arguments].concat()).await;
            let said = String::from_utf8(output.stdout).unwrap();
            let complained = String::from_utf8(output.stderr).unwrap();
            (output.status.code().unwrap(), said, complained)
        };
        let (code, said, _) = users(&["grant", "ada@example.org", "admin"]).await;
        assert_eq!(code, 0);
        assert!(said.contains("roles=\"admin\"") && !said.contains('@'), "{said}");
        let tokens = server.refresh(&tokens.refresh_token).await.unwrap();
        assert_eq!(server.validate(&tokens.access_token).await.unwrap().roles, ["admin"]);
        let (code, _, complained) = users(&["revoke", "Ada@Example.org", "admin"]).await;
        assert_eq!(code, 1);
        assert!(complained.contains("last administrator"), "{complained}");
        server.signed_in("root@example.org").await;
        assert_eq!(users(&["grant", "root@example.org", "admin"]).await.0, 0);
        assert_eq!(users(&["revoke", "Ada@Example.org", "admin"]).await.0, 0);
        let tokens = server.refresh(&tokens.refresh_token).await.unwrap();
        assert!(server.validate(&tokens.access_token).await.unwrap().roles.is_empty());

        assert_eq!(users(&["disable", "ada@example.org"]).await.0, 0);
        eventually("the token is revoked", async || server.validate(&tokens.access_token).await.is_err()).await;
        assert_eq!(reason(server.validate(&tokens.access_token).await), "TOKEN_REVOKED");
        assert_eq!(reason(server.login("ada@example.org").await), "INVALID_CREDENTIALS");
        assert_eq!(users(&["enable", "ada@example.org"]).await.0, 0);
        server.login("ada@example.org").await.unwrap();

        let (code, _, complained) = users(&["disable", "nobody@example.org"]).await;
        assert_eq!((code, complained.as_str()), (1, "countersign: there is no such user\n"));
        let usage: [&[&str]; 5] = [
            &["grant", "ada@example.org", "Not a role"],
            &["grant", "ada@example.org"],
            &["disable", "no address"],
            &["promote", "ada@example.org"],
            &[],
        ];
        for arguments in usage {
            assert_eq!(users(arguments).await.0, 64, "{arguments:?}");
        }
        for arguments in [&["--help"][..], &["grant", "--help"], &["disable", "--help"]] {
            assert_eq!(users(arguments).await.0, 0, "{arguments:?}");
        }
        let bad = [("COUNTERSIGN_ACCESS_TOKEN_TTL", "soon")];
        let output = run(&database, &bad, &["users", "enable", "ada@example.org"]).await;
        assert_eq!(output.status.code(), Some(78));
    }
}

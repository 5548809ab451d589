//! Service keys and the tokens that are issued for them: from memory, on every replica, also while the database is away.

use std::time::Duration;

use countersign::grpc::pb::{
    CreateServiceKeyRequest, GetCurrentUserRequest, IssueTokenRequest, ListServiceKeysRequest,
    PrincipalType, ServiceKey, ValidateTokenRequest, issue_token_request::Credential,
};
use prost_types::Timestamp;
use tokio::time::Instant;
use tonic::Status;

use crate::{
    revocation::Lateness,
    support::{
        Kind, TestDatabase, TestServer, eventually, failure, on_both_databases,
        operator::bearing,
        proxy::Proxy,
        reason,
        services::{Rights, Service},
        statements::{count_statements, statements},
    },
};

const TWO_AUDIENCES: (&str, &str) = ("COUNTERSIGN_AUDIENCES", "orders,billing");

async fn keys(
    server: &TestServer,
    admin: &str,
    service: &Service,
) -> Result<Vec<ServiceKey>, Status> {
    let request = ListServiceKeysRequest {
        service_account_id: service.account.service_account_id.clone(),
        ..Default::default()
    };
    let response = server
        .service_accounts()
        .list_service_keys(bearing(admin, request))
        .await?;
    Ok(response.into_inner().service_keys)
}

on_both_databases! {
    async fn a_token_for_a_key_has_the_claims_of_its_account(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[TWO_AUDIENCES]).await;
        let admin = server.administrator().await;
        let rights = Rights { roles: "reader verifier", audiences: "billing orders", ..Rights::default() };
        let orders = server.service(&admin, "orders", rights).await;
        let token = server.issue(&orders.secret).await.unwrap();
        let claims = server.validate(&token).await.unwrap();
        assert_eq!(claims.user_id, orders.account.service_account_id);
        assert_eq!(claims.session_id, orders.key.key_id);
        assert_eq!(claims.principal_type(), PrincipalType::Service);
        assert_eq!((claims.client_id.as_str(), claims.actor), ("orders", None));
        assert_eq!(claims.roles, ["reader", "verifier"]);
        assert_eq!(claims.audiences, ["billing"], "the first one of the account");
        assert_eq!((claims.auth_time, claims.amr.len(), claims.acr.as_str()), (None, 0, ""));
        let life = claims.expire_time.unwrap().seconds - server.clock.now().seconds();
        assert!((285..=300).contains(&life), "{life}");
        let both = server.issue_for(&orders.secret, "orders billing").await.unwrap();
        assert_eq!(server.validate(&both).await.unwrap().audiences, ["billing", "orders"]);
        for foreign in ["nonsense", "orders nonsense"] {
            assert_eq!(reason(server.issue_for(&orders.secret, foreign).await), "INVALID_FIELD");
        }
        // It proves no authentication of a user.
        let request = ValidateTokenRequest {
            access_token: token,
            max_auth_age: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
            ..Default::default()
        };
        assert_eq!(reason(server.auth().validate_token(request).await), "STEP_UP_REQUIRED");
        server.clock.advance(Duration::from_secs(300));
        assert_eq!(reason(server.validate(&both).await), "TOKEN_EXPIRED");
    }

    async fn every_credential_that_is_not_accepted_gets_the_same_answer(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let admin = server.administrator().await;
        let orders = server.service(&admin, "orders", Rights::default()).await;
        let revoked = server.service(&admin, "billing", Rights::default()).await;
        server.revoke_key(&admin, &revoked.key).await.unwrap();
        let tokens = server.signed_in("ada@example.org").await;
        let mut forged = orders.secret.clone();
        let last = forged.pop().unwrap();
        forged.push(if last == 'A' { 'B' } else { 'A' });
        let mut answers = Vec::new();
        for secret in ["", "csk_", "csk_AAAA", &forged, &revoked.secret, &tokens.refresh_token, &tokens.access_token] {
            answers.push(server.issue(secret).await.unwrap_err());
        }
        for assertion in ["", "a.b.c", tokens.access_token.as_str()] {
            let credential = Some(Credential::ClientAssertion(assertion.to_owned()));
            let request = IssueTokenRequest { credential, audiences: Vec::new() };
            answers.push(server.tokens().issue_token(request).await.unwrap_err());
        }
        for status in answers {
            let failure = failure(&status);
            assert_eq!(failure.reason, "CLIENT_CREDENTIAL_INVALID");
            assert_eq!(failure.message, "The credential of the service is not valid.");
        }
        let none = IssueTokenRequest::default();
        assert_eq!(reason(server.tokens().issue_token(none).await), "INVALID_FIELD");
    }

    async fn a_service_key_is_exchanged_for_a_token_and_is_not_a_bearer_token(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let admin = server.administrator().await;
        let orders = server.service(&admin, "orders", Rights { roles: "admin", ..Rights::default() }).await;
        let account = async |bearer: &str| {
            server.account().get_current_user(bearing(bearer, GetCurrentUserRequest {})).await
        };
        assert_eq!(reason(account(&orders.secret).await), "TOKEN_INVALID");
        assert_eq!(reason(server.validate(&orders.secret).await), "TOKEN_INVALID");
        assert_eq!(reason(server.watch(&orders.secret, "").await.map(|_| ())), "TOKEN_INVALID");
        let token = server.issue(&orders.secret).await.unwrap();
        assert_eq!(reason(account(&token).await), "INSUFFICIENT_ROLE", "a service account is no user");
    }

    async fn a_key_that_one_replica_creates_works_at_once_on_another(database: TestDatabase) {
        let here = TestServer::start(&database).await;
        let there = here.replica(&[("COUNTERSIGN_REVOCATION_POLL_INTERVAL", "1h"), ("COUNTERSIGN_REVOCATION_MAX_STALENESS", "2h")]).await;
        let admin = here.administrator().await;
        let account = here.create_account(&admin, "orders", Rights::default()).await.unwrap();
        for _ in 0..5 {
            let (secret, _) = here.create_key(&admin, &account).await.unwrap();
            there.issue(&secret).await.unwrap();
        }
    }

    async fn a_key_that_one_replica_revokes_is_refused_by_another_with_its_tokens_within_a_second(database: TestDatabase) {
        let here = TestServer::start(&database).await;
        let there = here.replica(&[]).await;
        let admin = here.administrator().await;
        let orders = here.service(&admin, "orders", Rights::default()).await;
        let (kept, _) = here.create_key(&admin, &orders.account).await.unwrap();
        let token = there.issue(&orders.secret).await.unwrap();
        let lateness = Lateness::measure();
        assert!(!here.revoke_key(&admin, &orders.key).await.unwrap().is_empty());
        let answered = Instant::now();
        assert_eq!(reason(here.issue(&orders.secret).await), "CLIENT_CREDENTIAL_INVALID");
        assert_eq!(reason(here.validate(&token).await), "TOKEN_REVOKED");
        let mut late = Vec::new();
        eventually("the other replica knows it", async || match there.issue(&orders.secret).await {
            Ok(token) => {
                late.push(token);
                false
            }
            Err(_) => there.validate(&token).await.is_err(),
        }).await;
        println!("{} tokens issued meanwhile", late.len());
        lateness.demand_in_time("a revoked key", &[answered.elapsed()], 1);
        assert!(!here.revoke_key(&admin, &orders.key).await.unwrap().is_empty(), "also the second time");
        for token in &late {
            assert_eq!(reason(here.validate(token).await), "TOKEN_REVOKED");
            assert_eq!(reason(there.validate(token).await), "TOKEN_REVOKED");
        }
        there.issue(&kept).await.unwrap();
        assert_eq!(keys(&here, &admin, &orders).await.unwrap().len(), 1);
        let events = database.count(&format!(
            "audit_events WHERE kind = 'service_key_revoked' AND session_id = '{}' AND user_id = '{}'",
            orders.key.key_id, orders.account.service_account_id,
        )).await;
        assert_eq!(events, 1);
        let unknown = ServiceKey { key_id: "01900000-0000-7000-8000-000000000000".to_owned(), ..Default::default() };
        assert_eq!(reason(here.revoke_key(&admin, &unknown).await), "SERVICE_KEY_NOT_FOUND");
    }

    async fn a_key_expires_and_no_key_lives_longer_than_a_year(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let admin = server.administrator().await;
        let orders = server.service(&admin, "orders", Rights::default()).await;
        let now = server.clock.now().seconds();
        let year = 366 * 86_400;
        for (expires_at, is_accepted) in [(None, false), (Some(0), false), (Some(1), true), (Some(year), true), (Some(year + 1), false)] {
            let request = CreateServiceKeyRequest {
                service_account_id: orders.account.service_account_id.clone(),
                expire_time: expires_at.map(|after| Timestamp { seconds: now + after, nanos: 0 }),
            };
            let created = server.service_accounts().create_service_key(bearing(&admin, request)).await;
            match is_accepted {
                true => assert!(created.unwrap().into_inner().service_key.starts_with("csk_")),
                false => assert_eq!(reason(created), "INVALID_FIELD"),
            }
        }
        server.issue(&orders.secret).await.unwrap();
        server.clock.advance(Duration::from_secs(86_400));
        // The directory is read again on the new day, or it would be too old to go by.
        eventually("the key has expired", async || {
            server.issue(&orders.secret).await.is_err_and(|status| failure(&status).reason == "CLIENT_CREDENTIAL_INVALID")
        }).await;
    }

    async fn the_last_use_of_a_key_is_known_to_the_minute_without_a_write_for_each(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let admin = server.administrator().await;
        let orders = server.service(&admin, "orders", Rights::default()).await;
        assert_eq!(keys(&server, &admin, &orders).await.unwrap()[0].last_use_time, None);
        server.clock.advance(Duration::from_secs(90));
        for _ in 0..3 {
            server.issue(&orders.secret).await.unwrap();
        }
        let now = server.clock.now().seconds();
        let used = keys(&server, &admin, &orders).await.unwrap()[0].last_use_time;
        assert_eq!(used.unwrap().seconds, now - now % 60);
        assert_eq!(database.count("service_keys WHERE last_used_at IS NOT NULL").await, 0);
        server.core.record_key_uses().await.unwrap();
        assert_eq!(database.count("service_keys WHERE last_used_at IS NOT NULL").await, 1);
        // Another replica finds it in the database.
        let other = server.replica(&[]).await;
        assert_eq!(keys(&other, &admin, &orders).await.unwrap()[0].last_use_time, used);
        other.issue(&orders.secret).await.unwrap();
        server.clock.advance(Duration::from_secs(60));
        other.issue(&orders.secret).await.unwrap();
        other.core.record_key_uses().await.unwrap();
        // An older use does not replace a later one.
        server.core.record_key_uses().await.unwrap();
        let micros = (now + 60 - (now + 60) % 60) * 1_000_000;
        assert_eq!(database.count(&format!("service_keys WHERE last_used_at = {micros}")).await, 1);
    }

    async fn a_service_account_with_the_role_watches_revocations_until_its_key_is_revoked(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let admin = server.administrator().await;
        let gateway = server.service(&admin, "gateway", Rights { roles: "verifier", ..Rights::default() }).await;
        let other = server.service(&admin, "other", Rights::default()).await;
        let refused = server.issue(&other.secret).await.unwrap();
        assert_eq!(reason(server.watch(&refused, "").await.map(|_| ())), "INSUFFICIENT_ROLE");
        let token = server.issue(&gateway.secret).await.unwrap();
        let mut watcher = server.watch(&token, "").await.unwrap();
        watcher.until(|heard| heard.is_complete).await;
        server.revoke_key(&admin, &other.key).await.unwrap();
        watcher.until(|heard| heard.sessions.contains(&other.key.key_id)).await;
        server.disable_account(&admin, &other.account).await.unwrap();
        watcher.until(|heard| heard.users.contains_key(&other.account.service_account_id)).await;
        server.revoke_key(&admin, &gateway.key).await.unwrap();
        assert_eq!(reason(watcher.end().await), "TOKEN_REVOKED");
    }

    async fn a_flood_of_unknown_keys_with_a_valid_mac_is_refused(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let admin = server.administrator().await;
        let orders = server.service(&admin, "orders", Rights::default()).await;
        // As after a restored backup: the key is right, and nobody knows it.
        database.execute("DELETE FROM service_keys; UPDATE service_directory SET version = version + 1, deleted_version = version + 1").await;
        eventually("the key is forgotten", async || server.issue(&orders.secret).await.is_err()).await;
        let calls = (0..50).map(|_| server.issue(&orders.secret));
        for answer in futures_util::future::join_all(calls).await {
            assert_eq!(reason(answer), "CLIENT_CREDENTIAL_INVALID");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_for_a_known_key_and_an_exchange_cost_no_database_statement() {
    count_statements();
    let database = TestDatabase::create(Kind::Postgres).await;
    let server = TestServer::start(&database).await;
    let admin = server.administrator().await;
    let rights = Rights {
        act_for_users_at: "countersign",
        ..Rights::default()
    };
    let orders = server.service(&admin, "orders", rights).await;
    let user = server.signed_in("ada@example.org").await.access_token;
    let before = statements();
    assert!(before > 0, "nothing is counted");
    for _ in 0..200 {
        let actor = server.issue(&orders.secret).await.unwrap();
        server.exchange(&user, &actor, "", "").await.unwrap();
    }
    assert_eq!(statements(), before);
}

/// Tokens are issued and exchanged while the database is away; what only the database could say is "unavailable", not
/// "invalid".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_issued_while_the_database_is_away() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let proxy = Proxy::before(&database.url).await;
    let here = TestServer::start_with(&database, &[("COUNTERSIGN_DATABASE_URL", &proxy.url)]).await;
    let there = here.replica(&[]).await;
    let admin = here.administrator().await;
    let rights = Rights {
        act_for_users_at: "countersign",
        ..Rights::default()
    };
    let orders = here.service(&admin, "orders", rights).await;
    let user = here.signed_in("ada@example.org").await.access_token;
    proxy.cut();
    let (unknown, _) = there.create_key(&admin, &orders.account).await.unwrap();
    for _ in 0..5 {
        let actor = here.issue(&orders.secret).await.unwrap();
        let token = here.exchange(&user, &actor, "", "").await.unwrap();
        here.validate(&token).await.unwrap();
        assert_eq!(reason(here.issue(&unknown).await), "DATABASE_UNAVAILABLE");
    }
    assert_eq!(
        reason(here.issue("csk_nonsense").await),
        "CLIENT_CREDENTIAL_INVALID"
    );
    proxy.mend();
    eventually("the new key is known", async || {
        here.issue(&unknown).await.is_ok()
    })
    .await;
}

/// The replica that is cut off does not know that the account was disabled and issues tokens: nobody else accepts them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_a_disabled_account_from_a_replica_without_database_are_refused_by_others() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let proxy = Proxy::before(&database.url).await;
    let cut_off =
        TestServer::start_with(&database, &[("COUNTERSIGN_DATABASE_URL", &proxy.url)]).await;
    let other = cut_off.replica(&[]).await;
    let admin = other.administrator().await;
    let disabled = other.service(&admin, "disabled", Rights::default()).await;
    let deleted = other.service(&admin, "deleted", Rights::default()).await;
    let revoked = other.service(&admin, "revoked", Rights::default()).await;
    let enabled = other.service(&admin, "enabled", Rights::default()).await;
    for service in [&disabled, &deleted, &revoked, &enabled] {
        cut_off.issue(&service.secret).await.unwrap();
    }
    proxy.cut();
    // Everything is known up to here; what comes after is not.
    other.clock.advance(Duration::from_secs(600));
    other
        .disable_account(&admin, &disabled.account)
        .await
        .unwrap();
    let request = countersign::grpc::pb::DeleteServiceAccountRequest {
        service_account_id: deleted.account.service_account_id.clone(),
    };
    other
        .service_accounts()
        .delete_service_account(bearing(&admin, request))
        .await
        .unwrap();
    other.revoke_key(&admin, &revoked.key).await.unwrap();
    other.clock.advance(Duration::from_secs(600));
    for service in [&disabled, &deleted, &revoked] {
        let token = cut_off.issue(&service.secret).await.unwrap();
        assert_eq!(reason(other.validate(&token).await), "TOKEN_REVOKED");
    }
    let token = cut_off.issue(&enabled.secret).await.unwrap();
    other.validate(&token).await.unwrap();
    // After a day it issues none any more.
    other.clock.advance(Duration::from_secs(24 * 3600));
    assert_eq!(
        reason(cut_off.issue(&enabled.secret).await),
        "DATABASE_UNAVAILABLE"
    );
}

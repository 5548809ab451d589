//! ServiceAccountService: who may call it, what it keeps, and what disabling and deleting an account does.

use std::time::Duration;

use countersign::grpc::pb::{
    CreateServiceAccountRequest, DeleteServiceAccountRequest, GetServiceAccountRequest,
    ListServiceAccountsRequest, ListServiceKeysRequest, ServiceAccount,
    UpdateServiceAccountRequest,
};
use prost_types::FieldMask;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::{
    revocation::Lateness,
    support::{
        TestDatabase, TestServer, eventually, failure, on_both_databases,
        operator::bearing,
        reason,
        services::{Rights, words},
    },
};

const TWO_AUDIENCES: (&str, &str) = ("COUNTERSIGN_AUDIENCES", "orders,billing");
const NOBODY: &str = "01900000-0000-7000-8000-000000000000";

async fn get(server: &TestServer, admin: &str, id: &str) -> Result<ServiceAccount, Status> {
    let service_account_id = id.to_owned();
    let request = bearing(admin, GetServiceAccountRequest { service_account_id });
    let response = server
        .service_accounts()
        .get_service_account(request)
        .await?;
    Ok(response.into_inner().service_account.unwrap())
}

pub async fn delete(server: &TestServer, admin: &str, id: &str) -> Result<String, Status> {
    let service_account_id = id.to_owned();
    let request = bearing(admin, DeleteServiceAccountRequest { service_account_id });
    let response = server
        .service_accounts()
        .delete_service_account(request)
        .await?;
    Ok(response.into_inner().revocation_cursor)
}

async fn update(
    server: &TestServer,
    admin: &str,
    account: ServiceAccount,
    mask: Option<&str>,
) -> Result<ServiceAccount, Status> {
    let update_mask = mask.map(|paths| FieldMask {
        paths: words(paths),
    });
    let request = UpdateServiceAccountRequest {
        service_account: Some(account),
        update_mask,
    };
    let request = bearing(admin, request);
    let response = server
        .service_accounts()
        .update_service_account(request)
        .await?;
    Ok(response.into_inner().service_account.unwrap())
}

/// The names of the accounts on every page, `size` to a page.
async fn list(server: &TestServer, admin: &str, size: i32) -> Vec<Vec<String>> {
    let (mut pages, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListServiceAccountsRequest {
            page_size: size,
            page_token,
        };
        let mut client = server.service_accounts();
        let response = client.list_service_accounts(bearing(admin, request));
        let page = response.await.unwrap().into_inner();
        let names = page
            .service_accounts
            .into_iter()
            .map(|account| account.name);
        pages.push(names.collect());
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return pages;
        }
    }
}

/// The reasons for which each call fails for this bearer.
async fn reasons(server: &TestServer, bearer: &str, account: &ServiceAccount) -> Vec<String> {
    let id = account.service_account_id.as_str();
    let key = countersign::grpc::pb::ServiceKey {
        key_id: NOBODY.to_owned(),
        ..Default::default()
    };
    let list = bearing(bearer, ListServiceAccountsRequest::default());
    let keys = bearing(bearer, ListServiceKeysRequest::default());
    vec![
        reason(
            server
                .create_account(bearer, "other", Rights::default())
                .await,
        ),
        reason(get(server, bearer, id).await),
        reason(server.service_accounts().list_service_accounts(list).await),
        reason(update(server, bearer, account.clone(), None).await),
        reason(server.disable_account(bearer, account).await),
        reason(server.enable_account(bearer, account).await),
        reason(delete(server, bearer, id).await),
        reason(server.create_key(bearer, account).await),
        reason(server.service_accounts().list_service_keys(keys).await),
        reason(server.revoke_key(bearer, &key).await),
    ]
}

on_both_databases! {
    async fn only_administrators_may_call(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let admin = server.administrator().await;
        let gateway = server.service(&admin, "gateway", Rights { roles: "verifier", ..Rights::default() }).await;
        let user = server.signed_in("ada@example.org").await.access_token;
        let service = server.issue(&gateway.secret).await.unwrap();
        for (bearer, expected) in [
            ("", "TOKEN_MISSING"),
            (gateway.secret.as_str(), "TOKEN_INVALID"),
            (user.as_str(), "INSUFFICIENT_ROLE"),
            (service.as_str(), "INSUFFICIENT_ROLE"),
        ] {
            let reasons = reasons(&server, bearer, &gateway.account).await;
            assert!(reasons.iter().all(|reason| reason == expected), "{bearer}: {reasons:?}");
        }
    }

    async fn a_service_account_with_the_role_administers_as_long_as_the_database_says_so(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let admin = server.administrator().await;
        let rights = Rights { roles: "admin", ..Rights::default() };
        let robot = server.service(&admin, "robot", rights).await;
        let token = server.issue(&robot.secret).await.unwrap();
        let created = server.create_account(&token, "orders", Rights::default()).await.unwrap();
        let robot_id = &robot.account.service_account_id;
        let events = database.count(&format!(
            "audit_events WHERE kind = 'service_account_created' AND actor_id = '{robot_id}' AND user_id = '{}'",
            created.service_account_id,
        )).await;
        assert_eq!(events, 1);
        let mut account = robot.account.clone();
        account.roles.clear();
        update(&server, &admin, account, Some("roles")).await.unwrap();
        assert_eq!(reason(server.create_account(&token, "other", Rights::default()).await), "INSUFFICIENT_ROLE");
    }

    async fn accounts_are_created_found_listed_changed_and_deleted(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[TWO_AUDIENCES]).await;
        let admin = server.administrator().await;
        let rights = Rights { roles: "reader verifier", audiences: "billing orders", act_for_users_at: "billing" };
        let orders = server.create_account(&admin, "orders", rights).await.unwrap();
        assert_eq!(orders.roles, ["reader", "verifier"]);
        assert_eq!(orders.audiences, ["billing", "orders"]);
        assert_eq!(orders.act_for_users_at, ["billing"]);
        assert!(!orders.disabled);
        let id = orders.service_account_id.as_str();
        assert_eq!(get(&server, &admin, id).await.unwrap(), orders);
        let plain = server.create_account(&admin, "plain", Rights::default()).await.unwrap();
        assert_eq!(plain.audiences, ["orders"], "the first that is configured");
        assert!(plain.act_for_users_at.is_empty());
        let taken = server.create_account(&admin, "orders", Rights::default()).await.unwrap_err();
        let failure = failure(&taken);
        assert_eq!((failure.code, failure.reason.as_str()), (Code::AlreadyExists, "SERVICE_ACCOUNT_EXISTS"));
        server.clock.advance(Duration::from_secs(1));
        server.create_account(&admin, "third", Rights::default()).await.unwrap();
        let pages = list(&server, &admin, 2).await;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(pages[1], ["third"]);

        let changed = ServiceAccount {
            display_name: "Orders".to_owned(),
            roles: words("writer"),
            audiences: words("orders"),
            act_for_users_at: Vec::new(),
            ..orders.clone()
        };
        let named = update(&server, &admin, changed.clone(), Some("roles act_for_users_at")).await.unwrap();
        assert_eq!((named.roles, named.act_for_users_at), (words("writer"), Vec::new()));
        assert_eq!((named.display_name.as_str(), named.audiences), ("", words("billing orders")));
        let given = update(&server, &admin, changed.clone(), None).await.unwrap();
        assert_eq!((given.display_name.as_str(), given.audiences), ("Orders", words("orders")));
        let all = update(&server, &admin, ServiceAccount { display_name: String::new(), ..changed }, Some("*")).await;
        let all = all.unwrap();
        assert_eq!(all.display_name, "");
        assert_eq!(get(&server, &admin, id).await.unwrap(), all);

        assert!(!delete(&server, &admin, id).await.unwrap().is_empty());
        for found in [
            reason(get(&server, &admin, id).await),
            reason(delete(&server, &admin, id).await),
            reason(update(&server, &admin, all, Some("*")).await),
            reason(server.disable_account(&admin, &orders).await),
            reason(server.enable_account(&admin, &orders).await),
            reason(server.create_key(&admin, &orders).await),
        ] {
            assert_eq!(found, "SERVICE_ACCOUNT_NOT_FOUND");
        }
        server.create_account(&admin, "orders", Rights::default()).await.expect("the name is free again");
        for kind in ["created", "updated", "deleted"] {
            let events = database.count(&format!(
                "audit_events WHERE kind = 'service_account_{kind}' AND user_id = '{id}' AND actor_id IS NOT NULL"
            )).await;
            assert_eq!(events, if kind == "updated" { 3 } else { 1 }, "{kind}");
        }
    }

    async fn invalid_fields_are_named(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[TWO_AUDIENCES]).await;
        let admin = server.administrator().await;
        let fields = |status: Status| {
            let details = failure(&status).details;
            let violations = &details.bad_request().unwrap().field_violations;
            violations.iter().map(|violation| violation.field.clone()).collect::<Vec<_>>()
        };
        let request = CreateServiceAccountRequest {
            name: "Orders".to_owned(),
            display_name: "a\0b".to_owned(),
            roles: words("Admin"),
            ..Default::default()
        };
        let refused = server.service_accounts().create_service_account(bearing(&admin, request)).await;
        assert_eq!(fields(refused.unwrap_err()), ["name", "display_name", "roles"]);
        let foreign = Rights { audiences: "orders nonsense", ..Rights::default() };
        let refused = server.create_account(&admin, "orders", foreign).await;
        assert_eq!(fields(refused.unwrap_err()), ["audiences"]);
        let foreign = Rights { act_for_users_at: "nonsense", ..Rights::default() };
        let refused = server.create_account(&admin, "orders", foreign).await;
        assert_eq!(fields(refused.unwrap_err()), ["act_for_users_at"]);
        let orders = server.create_account(&admin, "orders", Rights::default()).await.unwrap();
        let refused = update(&server, &admin, orders.clone(), Some("name")).await;
        assert_eq!(fields(refused.unwrap_err()), ["update_mask"]);
        let none = ServiceAccount { audiences: Vec::new(), ..orders };
        let refused = update(&server, &admin, none, Some("audiences")).await;
        assert_eq!(fields(refused.unwrap_err()), ["service_account.audiences"]);
        for id in ["", "orders"] {
            assert_eq!(fields(get(&server, &admin, id).await.unwrap_err()), ["service_account_id"]);
        }
    }

    async fn a_disabled_account_has_no_tokens_on_any_replica_after_a_second_until_enabled(database: TestDatabase) {
        let here = TestServer::start(&database).await;
        let there = here.replica(&[]).await;
        let admin = here.administrator().await;
        let orders = here.service(&admin, "orders", Rights::default()).await;
        let token = there.issue(&orders.secret).await.unwrap();
        here.clock.advance(Duration::from_secs(60));
        let lateness = Lateness::measure();
        assert!(here.disable_account(&admin, &orders.account).await.unwrap().disabled);
        let answered = Instant::now();
        assert_eq!(reason(here.issue(&orders.secret).await), "CLIENT_CREDENTIAL_INVALID");
        assert_eq!(reason(here.validate(&token).await), "TOKEN_REVOKED");
        eventually("the other replica knows it", async || {
            there.issue(&orders.secret).await.is_err() && there.validate(&token).await.is_err()
        }).await;
        lateness.demand_in_time("a disabled account", &[answered.elapsed()], 1);
        assert_eq!(reason(there.issue(&orders.secret).await), "CLIENT_CREDENTIAL_INVALID");
        assert_eq!(reason(there.validate(&token).await), "TOKEN_REVOKED");
        assert!(here.disable_account(&admin, &orders.account).await.unwrap().disabled, "also the second time");
        here.clock.advance(Duration::from_secs(60));
        for _ in 0..2 {
            assert!(!here.enable_account(&admin, &orders.account).await.unwrap().disabled);
        }
        eventually("new tokens are good again", async || {
            let Ok(token) = there.issue(&orders.secret).await else { return false };
            here.validate(&token).await.is_ok() && there.validate(&token).await.is_ok()
        }).await;
        assert_eq!(reason(here.validate(&token).await), "TOKEN_REVOKED");
        for kind in ["disabled", "enabled"] {
            let events = database.count(&format!("audit_events WHERE kind = 'service_account_{kind}'")).await;
            assert_eq!(events, 1, "{kind}");
        }
    }

    async fn a_deleted_account_has_no_tokens_on_any_replica_after_a_second(database: TestDatabase) {
        let here = TestServer::start(&database).await;
        let there = here.replica(&[]).await;
        let admin = here.administrator().await;
        let orders = here.service(&admin, "orders", Rights::default()).await;
        let other = here.service(&admin, "other", Rights::default()).await;
        let token = there.issue(&orders.secret).await.unwrap();
        let lateness = Lateness::measure();
        delete(&here, &admin, &orders.account.service_account_id).await.unwrap();
        let answered = Instant::now();
        assert_eq!(reason(here.issue(&orders.secret).await), "CLIENT_CREDENTIAL_INVALID");
        assert_eq!(reason(here.validate(&token).await), "TOKEN_REVOKED");
        eventually("the other replica knows it", async || {
            there.issue(&orders.secret).await.is_err() && there.validate(&token).await.is_err()
        }).await;
        lateness.demand_in_time("a deleted account", &[answered.elapsed()], 1);
        assert_eq!(reason(there.issue(&orders.secret).await), "CLIENT_CREDENTIAL_INVALID");
        there.issue(&other.secret).await.unwrap();
        assert_eq!(database.count("service_keys").await, 1);
    }
}

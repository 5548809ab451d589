//! Tokens for assertions whose keys the issuer serves over HTTP: issued from memory, also while the database is away.

use std::time::Duration;

use countersign::grpc::pb::PrincipalType;

use crate::{
    assertions::{CLUSTER, ORDERS, issue},
    support::{
        Kind, TestDatabase, TestServer, eventually,
        issuer::{IssuerFiles, JwksServer, TestIssuer},
        on_both_databases,
        proxy::Proxy,
        reason,
        services::Rights,
        statements::{count_statements, statements},
    },
    trusted_issuers::kubernetes_token,
};

const RETURNS: &str = "system:serviceaccount:shop:returns";

/// A Kubernetes cluster whose keys are behind a URL. Two of its service accounts are ours: `orders` and `returns`.
fn files_at(keys: &JwksServer) -> IssuerFiles {
    let url = keys.url();
    IssuerFiles::new(&format!(
        r#"
        [[issuer]]
        name = "cluster"
        issuer = "{CLUSTER}"
        audience = "countersign"
        jwks_url = "{url}"
        allow_networks = ["127.0.0.0/8"]
        algorithms = ["RS256"]

        [[binding]]
        issuer = "cluster"
        subject = "{ORDERS}"
        service_account = "orders"

        [[binding]]
        issuer = "cluster"
        subject = "{RETURNS}"
        service_account = "returns"
        "#
    ))
}

fn cluster(kid: &str) -> TestIssuer {
    TestIssuer::new("RS256", kid, Some(CLUSTER))
}

on_both_databases! {
    async fn a_kubernetes_token_is_exchanged_by_keys_that_are_fetched_over_http_and_rotate(database: TestDatabase) {
        let old = cluster("1");
        let keys = JwksServer::start(&old.jwks()).await;
        let files = files_at(&keys);
        let file = ("COUNTERSIGN_TRUSTED_ISSUERS_FILE", files.toml.as_str());
        let server = TestServer::start_with(&database, &[file]).await;
        let admin = server.administrator().await;
        let rights = Rights { roles: "verifier", ..Rights::default() };
        let account = server.create_account(&admin, "orders", rights).await.unwrap();
        for _ in 0..3 {
            let token = issue(&server, &kubernetes_token(&old)).await.unwrap();
            let claims = server.validate(&token).await.unwrap();
            assert_eq!(claims.user_id, account.service_account_id);
            assert_eq!((claims.principal_type(), claims.client_id.as_str()), (PrincipalType::Service, "orders"));
            assert_eq!(claims.roles, ["verifier"]);
        }
        assert_eq!(keys.requests(), 1, "the keys are kept");

        let new = cluster("2");
        keys.serve(&new.jwks());
        server.clock.advance(Duration::from_secs(10));
        issue(&server, &kubernetes_token(&new)).await.unwrap();
        assert_eq!(reason(issue(&server, &kubernetes_token(&old)).await), "CLIENT_CREDENTIAL_INVALID");
        assert_eq!(keys.requests(), 2);
    }

    async fn a_token_for_an_assertion_costs_no_database_statement(database: TestDatabase) {
        count_statements();
        let issuer = cluster("1");
        let keys = JwksServer::start(&issuer.jwks()).await;
        let files = files_at(&keys);
        let file = ("COUNTERSIGN_TRUSTED_ISSUERS_FILE", files.toml.as_str());
        let server = TestServer::start_with(&database, &[file]).await;
        let admin = server.administrator().await;
        server.create_account(&admin, "orders", Rights::default()).await.unwrap();
        let before = statements();
        assert!(before > 0, "nothing is counted");
        let token = kubernetes_token(&issuer);
        for _ in 0..200 {
            issue(&server, &token).await.unwrap();
        }
        assert_eq!(statements(), before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_assertion_gets_a_token_while_the_database_is_away() {
    let issuer = cluster("1");
    let keys = JwksServer::start(&issuer.jwks()).await;
    let files = files_at(&keys);
    let file = ("COUNTERSIGN_TRUSTED_ISSUERS_FILE", files.toml.as_str());
    let database = TestDatabase::create(Kind::Postgres).await;
    let proxy = Proxy::before(&database.url).await;
    let through_proxy = [file, ("COUNTERSIGN_DATABASE_URL", proxy.url.as_str())];
    let here = TestServer::start_with(&database, &through_proxy).await;
    let there = here.replica(&[]).await;
    let admin = there.administrator().await;
    let rights = Rights::default();
    here.create_account(&admin, "orders", rights).await.unwrap();
    proxy.cut();
    // It is bound, and only the database could say whether it exists.
    there
        .create_account(&admin, "returns", rights)
        .await
        .unwrap();
    let now = here.clock.now().seconds();
    let unknown = issuer.sign(&issuer.claims(RETURNS, now));
    for _ in 0..5 {
        let token = issue(&here, &kubernetes_token(&issuer)).await.unwrap();
        here.validate(&token).await.unwrap();
        there.validate(&token).await.unwrap();
        assert_eq!(reason(issue(&here, &unknown).await), "DATABASE_UNAVAILABLE");
    }
    let unbound = issuer.sign(&issuer.claims("system:serviceaccount:shop:other", now));
    assert_eq!(
        reason(issue(&here, &unbound).await),
        "CLIENT_CREDENTIAL_INVALID"
    );
    proxy.mend();
    eventually("the new account is known", async || {
        issue(&here, &unknown).await.is_ok()
    })
    .await;
}

//! IssueToken by an assertion of a trusted issuer: a service without any secret of its own.

use std::time::Duration;

use countersign::grpc::pb::{IssueTokenRequest, PrincipalType, issue_token_request::Credential};
use tonic::Status;

use crate::support::{
    Kind, TestDatabase, TestServer, eventually, failure,
    issuer::{IssuerFiles, JwksServer, TestIssuer},
    on_both_databases, reason,
    services::Rights,
    tls::Authority,
};

pub const CLUSTER: &str = "https://kubernetes.default.svc.cluster.local";
pub const ORDERS: &str = "system:serviceaccount:shop:orders";

/// A file that trusts the issuer, and binds one subject to the service account `orders`.
pub fn files_of(issuer: &TestIssuer) -> IssuerFiles {
    let files = IssuerFiles::new(&format!(
        r#"
        [[issuer]]
        name = "cluster"
        issuer = "{CLUSTER}"
        audience = "countersign"
        jwks_file = "FOLDER/cluster.jwks"
        algorithms = ["ES256"]

        [[binding]]
        issuer = "cluster"
        subject = "{ORDERS}"
        service_account = "orders"
        "#
    ));
    files.write("cluster.jwks", &issuer.jwks());
    files
}

pub async fn issue(server: &TestServer, assertion: &str) -> Result<String, Status> {
    let request = IssueTokenRequest {
        credential: Some(Credential::ClientAssertion(assertion.to_owned())),
        audiences: Vec::new(),
    };
    let response = server.tokens().issue_token(request).await?;
    Ok(response.into_inner().access_token)
}

/// A file that trusts the issuer whose keys are behind the URL of the server, with a certificate of `authority`.
fn files_at(server: &JwksServer, authority: &Authority) -> IssuerFiles {
    let port = server.address.port();
    let files = IssuerFiles::new("");
    files.write("ca.crt", &authority.pem);
    files.write(
        "issuers.toml",
        &format!(
            r#"
            [[issuer]]
            name = "cluster"
            issuer = "{CLUSTER}"
            audience = "countersign"
            jwks_url = "https://127.0.0.1:{port}/jwks"
            allow_networks = ["127.0.0.0/8"]
            ca_file = "FOLDER/ca.crt"
            algorithms = ["ES256"]

            [[binding]]
            issuer = "cluster"
            subject = "{ORDERS}"
            service_account = "orders"
            "#
        ),
    );
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_fetched_over_https_only_from_a_server_that_the_ca_file_vouches_for() {
    let issuer = TestIssuer::new("ES256", "1", Some(CLUSTER));
    let (trusted, other) = (Authority::new("cluster"), Authority::new("other"));
    let keys = JwksServer::start_tls(&issuer.jwks(), &trusted).await;
    let database = TestDatabase::create(Kind::Sqlite).await;
    for (authority, expected) in [(&trusted, true), (&other, false)] {
        let files = files_at(&keys, authority);
        let file = ("COUNTERSIGN_TRUSTED_ISSUERS_FILE", files.toml.as_str());
        let server = TestServer::start_with(&database, &[file]).await;
        if expected {
            let admin = server.administrator().await;
            let rights = Rights::default();
            server
                .create_account(&admin, "orders", rights)
                .await
                .unwrap();
        }
        let now = server.clock.now().seconds();
        let issued = issue(&server, &issuer.sign(&issuer.claims(ORDERS, now))).await;
        match expected {
            true => assert!(issued.is_ok(), "{issued:?}"),
            false => assert_eq!(reason(issued), "CLIENT_CREDENTIAL_INVALID"),
        }
        server.stop().await;
    }
}

on_both_databases! {
    async fn a_platform_s_token_is_exchanged_for_one_of_the_account_that_it_is_bound_to(database: TestDatabase) {
        let issuer = TestIssuer::new("ES256", "1", Some(CLUSTER));
        let files = files_of(&issuer);
        let path = files.path("issuers.toml");
        let file = ("COUNTERSIGN_TRUSTED_ISSUERS_FILE", path.to_str().unwrap());
        let server = TestServer::start_with(&database, &[file]).await;
        let assertion = issuer.sign(&issuer.claims(ORDERS, server.clock.now().seconds()));
        let refused = issue(&server, &assertion).await.unwrap_err();
        assert_eq!(failure(&refused).reason, "CLIENT_CREDENTIAL_INVALID", "nobody has made the account");
        let admin = server.administrator().await;
        let rights = Rights { roles: "verifier", ..Rights::default() };
        let account = server.create_account(&admin, "orders", rights).await.unwrap();
        let first = server.validate(&issue(&server, &assertion).await.unwrap()).await.unwrap();
        assert_eq!(first.user_id, account.service_account_id);
        assert_eq!((first.principal_type(), first.client_id.as_str()), (PrincipalType::Service, "orders"));
        assert_eq!(first.roles, ["verifier"]);
        let second = server.validate(&issue(&server, &assertion).await.unwrap()).await.unwrap();
        assert_eq!(first.session_id, second.session_id, "that of the binding");
        let forged = TestIssuer::new("ES256", "1", Some(CLUSTER));
        for bad in [
            forged.sign(&forged.claims(ORDERS, server.clock.now().seconds())),
            issuer.sign(&issuer.claims("system:serviceaccount:shop:billing", server.clock.now().seconds())),
        ] {
            assert_eq!(reason(issue(&server, &bad).await), "CLIENT_CREDENTIAL_INVALID");
        }

        let token = issue(&server, &assertion).await.unwrap();
        server.clock.advance(Duration::from_secs(30));
        server.disable_account(&admin, &account).await.unwrap();
        assert_eq!(reason(issue(&server, &assertion).await), "CLIENT_CREDENTIAL_INVALID");
        assert_eq!(reason(server.validate(&token).await), "TOKEN_REVOKED");
        server.clock.advance(Duration::from_secs(30));
        server.enable_account(&admin, &account).await.unwrap();
        eventually("the binding works again", async || {
            let Ok(token) = issue(&server, &assertion).await else { return false };
            server.validate(&token).await.is_ok()
        }).await;
    }

    async fn an_account_that_another_replica_has_just_created_is_found_by_its_binding(database: TestDatabase) {
        let issuer = TestIssuer::new("ES256", "1", Some(CLUSTER));
        let files = files_of(&issuer);
        let file = ("COUNTERSIGN_TRUSTED_ISSUERS_FILE", files.toml.as_str());
        let here = TestServer::start_with(&database, &[file]).await;
        // On SQLite only a poll would tell it.
        let rarely = [file, ("COUNTERSIGN_REVOCATION_POLL_INTERVAL", "1h"), ("COUNTERSIGN_REVOCATION_MAX_STALENESS", "2h")];
        let there = here.replica(&rarely).await;
        let admin = here.administrator().await;
        here.create_account(&admin, "orders", Rights::default()).await.unwrap();
        let assertion = issuer.sign(&issuer.claims(ORDERS, here.clock.now().seconds()));
        issue(&there, &assertion).await.unwrap();
    }
}

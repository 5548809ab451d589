//! IssueToken by an assertion of a trusted issuer: a service without any secret of its own.

use std::time::Duration;

use countersign::grpc::pb::{IssueTokenRequest, PrincipalType, issue_token_request::Credential};
use tonic::Status;

use crate::support::{
    TestDatabase, TestServer, eventually, failure,
    issuer::{IssuerFiles, TestIssuer},
    on_both_databases, reason,
    services::Rights,
};

const CLUSTER: &str = "https://kubernetes.default.svc.cluster.local";
const ORDERS: &str = "system:serviceaccount:shop:orders";

/// A file that trusts the issuer, and binds one subject to the service account `orders`.
fn files_of(issuer: &TestIssuer) -> IssuerFiles {
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

async fn issue(server: &TestServer, assertion: &str) -> Result<String, Status> {
    let request = IssueTokenRequest {
        credential: Some(Credential::ClientAssertion(assertion.to_owned())),
        audiences: Vec::new(),
    };
    let response = server.tokens().issue_token(request).await?;
    Ok(response.into_inner().access_token)
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
}

//! The crate `countersign-verifier`: TLS, and the credentials of a service account against the real server.

use countersign::clock::Clock;
use countersign_verifier::{ConnectError, Credential, Verifier, VerifierConfig};
use tonic::transport::{Certificate as CaCertificate, ClientTlsConfig, Endpoint, Identity};

use crate::assertions::{CLUSTER, ORDERS, files_of};
use crate::support::{
    PATIENCE, TestDatabase, TestServer,
    issuer::TestIssuer,
    on_both_databases,
    services::Rights,
    tls::{Authority, Certificate, HOST, TlsServer, channel},
};

async fn connect(endpoint: Endpoint, credential: Credential) -> Result<Verifier, ConnectError> {
    let config = VerifierConfig::new("http://localhost:50051", "countersign", credential);
    Verifier::connect(endpoint, config.connect_timeout(PATIENCE)).await
}

/// The server's endpoint, for a client that trusts its authority and shows `own`.
fn endpoint(tls: &TlsServer, own: Option<&Certificate>) -> Endpoint {
    let ca = CaCertificate::from_pem(&tls.authority.pem);
    let mut config = ClientTlsConfig::new().domain_name(HOST).ca_certificate(ca);
    if let Some(own) = own {
        config = config.identity(Identity::from_pem(&own.pem, &own.key));
    }
    let endpoint = Endpoint::from_shared(format!("https://{}", tls.server.address)).unwrap();
    endpoint.tls_config(config).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_with_a_listed_name_is_a_credential() {
    let clients = Authority::new("clients");
    let listed = [("COUNTERSIGN_TLS_VERIFIERS", "gateway.example.org")];
    let tls = TlsServer::start_with(Some(&clients), &listed).await;
    let certificate = || Credential::client_certificate();
    let verifier = connect(endpoint(&tls, Some(&clients.client())), certificate()).await;
    assert!(verifier.unwrap().state().is_ready);
    let without = connect(endpoint(&tls, None), certificate()).await;
    assert!(
        matches!(without, Err(ConnectError::CredentialRefused(_))),
        "{without:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bound_token_may_watch_over_a_connection_with_its_certificate() {
    let clients = Authority::new("clients");
    let mut tls = TlsServer::start_with(Some(&clients), &[]).await;
    let plain = tls.grpc(None);
    tls.server.channel = channel(tls.server.address, plain).await.unwrap();
    let admin = tls.server.administrator().await;
    let rights = Rights {
        roles: "verifier",
        ..Rights::default()
    };
    let service = tls.server.service(&admin, "orders", rights).await;
    let (own, other) = (clients.client(), clients.client());
    let key = |own| Credential::service_key(endpoint(&tls, Some(own)), &service.secret).unwrap();
    let verifier = connect(endpoint(&tls, Some(&own)), key(&own)).await;
    assert!(verifier.unwrap().state().is_ready);
    let stolen = connect(endpoint(&tls, Some(&other)), key(&own)).await;
    assert!(
        matches!(stolen, Err(ConnectError::CredentialRefused(_))),
        "{stolen:?}"
    );
}

on_both_databases! {
    async fn an_assertion_that_the_platform_renews_is_a_credential(database: TestDatabase) {
        let issuer = TestIssuer::new("ES256", "1", Some(CLUSTER));
        let files = files_of(&issuer);
        let variable = ("COUNTERSIGN_TRUSTED_ISSUERS_FILE", files.toml.as_str());
        let server = TestServer::start_on_system_clock(&database, &[variable]).await;
        let admin = server.administrator().await;
        let rights = Rights { roles: "verifier", ..Rights::default() };
        server.create_account(&admin, "orders", rights).await.unwrap();
        let now = Clock::System.now().seconds();
        let assertion = |subject| issuer.sign(&issuer.claims(subject, now));
        let url = format!("http://{}", server.address);
        let credential = || Credential::assertion_file(&url, files.path("token")).unwrap();
        let connect = async || connect(Endpoint::from_shared(url.clone()).unwrap(), credential()).await;

        files.write("token", &assertion("system:serviceaccount:shop:billing"));
        let refused = connect().await;
        assert!(matches!(refused, Err(ConnectError::CredentialRefused(_))), "{refused:?}");
        files.write("token", &format!("{}\n", assertion(ORDERS)));
        assert!(connect().await.unwrap().state().is_ready);
    }
}

//! Tokens that are bound to a client certificate (RFC 8705), and certificates that watch revocations without a token.

use std::{collections::HashMap, fmt::Write as _};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign::grpc::{
    ext_authz_pb::{
        AttributeContext, CheckRequest,
        attribute_context::{HttpRequest, Request as AttributeRequest},
        authorization_client::AuthorizationClient,
    },
    pb::{
        ListServiceKeysRequest, ValidateTokenRequest, WatchRevocationsRequest,
        auth_service_client::AuthServiceClient,
        service_account_service_client::ServiceAccountServiceClient,
        verifier_service_client::VerifierServiceClient,
    },
};
use tonic::{Status, transport::Channel};

use crate::support::{
    client::payload,
    operator::bearing,
    reason,
    services::{Rights, Service},
    tls::{Authority, Certificate, TlsServer, channel},
};

/// A server that accepts client certificates, two clients, and a service account.
struct Fixture {
    tls: TlsServer,
    own: Certificate,
    other: Certificate,
    service: Service,
    admin: String,
}

impl Fixture {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let clients = Authority::new("clients");
        let mut tls = TlsServer::start_with(Some(&clients), settings).await;
        let (own, other) = (clients.client(), clients.client());
        let plain = tls.grpc(None);
        tls.server.channel = channel(tls.server.address, plain).await.unwrap();
        let admin = tls.server.administrator().await;
        let rights = Rights {
            roles: "verifier admin",
            act_for_users_at: "countersign",
            ..Rights::default()
        };
        let service = tls.server.service(&admin, "orders", rights).await;
        Self {
            tls,
            own,
            other,
            service,
            admin,
        }
    }

    /// A connection with this certificate.
    async fn over(&self, certificate: Option<&Certificate>) -> Channel {
        let config = self.tls.grpc(certificate);
        channel(self.tls.server.address, config).await.unwrap()
    }

    /// A token that was issued over the connection with the first certificate.
    async fn bound_token(&mut self) -> String {
        self.tls.server.channel = self.over(Some(&self.own)).await;
        let issued = self.tls.server.issue(&self.service.secret).await;
        self.tls.server.channel = self.over(None).await;
        issued.unwrap()
    }

    async fn validate(&self, token: &str, sha256: &[u8]) -> Result<String, Status> {
        let request = ValidateTokenRequest {
            access_token: token.to_owned(),
            client_certificate_sha256: sha256.to_vec(),
            ..Default::default()
        };
        let response = AuthServiceClient::new(self.tls.server.channel.clone())
            .validate_token(request)
            .await?;
        Ok(response.into_inner().user_id)
    }

    /// A call of an administrator with the token, over the connection with this certificate.
    async fn administer(
        &self,
        token: &str,
        certificate: Option<&Certificate>,
    ) -> Result<(), Status> {
        let request = ListServiceKeysRequest {
            service_account_id: self.service.account.service_account_id.clone(),
            ..Default::default()
        };
        let channel = self.over(certificate).await;
        let mut client = ServiceAccountServiceClient::new(channel);
        client
            .list_service_keys(bearing(token, request))
            .await
            .map(drop)
    }

    /// Opens the feed over the connection with this certificate.
    async fn watch(&self, token: &str, certificate: Option<&Certificate>) -> Result<(), Status> {
        let mut client = VerifierServiceClient::new(self.over(certificate).await);
        let request = bearing(token, WatchRevocationsRequest::default());
        let mut stream = client.watch_revocations(request).await?.into_inner();
        stream.message().await.map(drop)
    }

    /// The HTTP status with which a gateway answers, which says that its client had a certificate with this hash.
    async fn gateway(&self, token: &str, forwarded: Option<String>) -> i32 {
        let mut headers = HashMap::from([("authorization".to_owned(), format!("Bearer {token}"))]);
        headers.extend(forwarded.map(|value| ("x-forwarded-client-cert".to_owned(), value)));
        let request = CheckRequest {
            attributes: Some(AttributeContext {
                request: Some(AttributeRequest {
                    http: Some(HttpRequest {
                        headers,
                        header_map: None,
                    }),
                }),
                context_extensions: HashMap::new(),
            }),
        };
        let mut client = AuthorizationClient::new(self.tls.server.channel.clone());
        let response = client.check(request).await.unwrap().into_inner();
        response.status.unwrap().code
    }
}

fn hash(certificate: &Certificate) -> [u8; 32] {
    digest(&SHA256, &certificate.der())
        .as_ref()
        .try_into()
        .unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

const OK: i32 = 0;
const UNAUTHENTICATED: i32 = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_issued_over_a_client_certificate_is_valid_only_with_it() {
    let mut fixture = Fixture::start(&[]).await;
    let token = fixture.bound_token().await;
    let (own, other) = (hash(&fixture.own), hash(&fixture.other));
    assert_eq!(
        payload(&token)["cnf"]["x5t#S256"],
        URL_SAFE_NO_PAD.encode(own)
    );
    let user = fixture.validate(&token, &own).await.unwrap();
    assert_eq!(user, fixture.service.account.service_account_id);
    for wrong in [&[][..], &other[..]] {
        let refused = fixture.validate(&token, wrong).await;
        assert_eq!(reason(refused), "TOKEN_INVALID");
    }
    let malformed = fixture.validate(&token, &own[..31]).await;
    assert_eq!(reason(malformed), "INVALID_FIELD");
    // A token that is bound to none is good with any.
    let unbound = fixture.tls.server.issue(&fixture.service.secret).await;
    let unbound = unbound.unwrap();
    assert_eq!(payload(&unbound).get("cnf"), None);
    for certificate in [&[][..], &own[..]] {
        fixture.validate(&unbound, certificate).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_rpcs_refuse_a_bound_token_over_another_connection() {
    let mut fixture = Fixture::start(&[]).await;
    let token = fixture.bound_token().await;
    fixture
        .administer(&token, Some(&fixture.own))
        .await
        .unwrap();
    fixture.watch(&token, Some(&fixture.own)).await.unwrap();
    for wrong in [None, Some(&fixture.other)] {
        let refused = fixture.administer(&token, wrong).await;
        assert_eq!(reason(refused), "TOKEN_INVALID");
        let refused = fixture.watch(&token, wrong).await;
        assert_eq!(reason(refused), "TOKEN_INVALID");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_requires_the_certificate_of_the_actor_and_binds_the_new_token() {
    let mut fixture = Fixture::start(&[]).await;
    let actor = fixture.bound_token().await;
    let user = fixture.tls.server.signed_in_as("ada@example.org", "reader");
    let user = user.await.access_token;
    let refused = fixture.tls.server.exchange(&user, &actor, "", "").await;
    assert_eq!(reason(refused), "CLIENT_CREDENTIAL_INVALID");
    fixture.tls.server.channel = fixture.over(Some(&fixture.own)).await;
    let exchanged = fixture.tls.server.exchange(&user, &actor, "", "").await;
    let exchanged = exchanged.unwrap();
    assert_eq!(payload(&exchanged)["cnf"], payload(&actor)["cnf"]);
    // The next service passes it on with its own certificate.
    fixture.tls.server.channel = fixture.over(Some(&fixture.other)).await;
    let next = fixture.tls.server.issue(&fixture.service.secret).await;
    let next = next.unwrap();
    let again = fixture.tls.server.exchange(&exchanged, &next, "", "").await;
    assert_eq!(payload(&again.unwrap())["cnf"], payload(&next)["cnf"]);
    // One without a certificate does not get an unbound token for it.
    fixture.tls.server.channel = fixture.over(None).await;
    let unbound = fixture.tls.server.issue(&fixture.service.secret).await;
    let unbound = unbound.unwrap();
    let loosened = fixture
        .tls
        .server
        .exchange(&exchanged, &unbound, "", "")
        .await;
    assert_eq!(reason(loosened), "EXCHANGE_NOT_ALLOWED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_with_a_listed_name_watches_without_a_token() {
    let listed = [("COUNTERSIGN_TLS_VERIFIERS", "Gateway.example.org")];
    let fixture = Fixture::start(&listed).await;
    fixture.watch("", Some(&fixture.own)).await.unwrap();
    let without = fixture.watch("", None).await;
    assert_eq!(reason(without), "TOKEN_MISSING");
    // A token that is there is judged.
    let wrong = fixture.watch("x", Some(&fixture.own)).await;
    assert_eq!(reason(wrong), "TOKEN_INVALID");
    // Nothing else opens by the certificate.
    let other = fixture.administer("", Some(&fixture.own)).await;
    assert_eq!(reason(other), "TOKEN_MISSING");
    fixture.administer(&fixture.admin, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_without_a_listed_name_watches_only_with_a_token() {
    let listed = [(
        "COUNTERSIGN_TLS_VERIFIERS",
        "example.org,spiffe://example.org/gateway",
    )];
    let fixture = Fixture::start(&listed).await;
    let refused = fixture.watch("", Some(&fixture.own)).await;
    assert_eq!(reason(refused), "TOKEN_MISSING");
    fixture
        .watch(&fixture.admin, Some(&fixture.own))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ext_authz_uses_the_certificate_that_a_trusted_proxy_forwards() {
    let trusted = [("COUNTERSIGN_TRUSTED_PROXIES", "127.0.0.1")];
    let mut fixture = Fixture::start(&trusted).await;
    let token = fixture.bound_token().await;
    let told = |certificate: &Certificate| {
        let hash = hex(&hash(certificate));
        Some(format!("Hash={hash};Subject=\"CN=a, b\""))
    };
    assert_eq!(fixture.gateway(&token, told(&fixture.own)).await, OK);
    for wrong in [told(&fixture.other), None, Some("Hash=".to_owned())] {
        assert_eq!(fixture.gateway(&token, wrong).await, UNAUTHENTICATED);
    }
    let mut stranger = Fixture::start(&[]).await;
    let token = stranger.bound_token().await;
    assert_eq!(
        stranger.gateway(&token, told(&stranger.own)).await,
        UNAUTHENTICATED,
        "the proxy is not trusted"
    );
}

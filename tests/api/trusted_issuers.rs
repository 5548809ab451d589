//! Trusted issuers: which assertions are accepted, how keys are fetched, and how the file is followed.

use std::time::Duration;

use countersign::{
    clock::{Clock, ManualClock},
    grpc::pb::{IssueTokenRequest, issue_token_request::Credential},
    workloads::issuers::{BoundSubject, IssuersReloader, RefusalCause, TrustedIssuers},
};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::{
    TestDatabase, TestServer, eventually, failure,
    forge::Key,
    issuer::{IssuerFiles, JwksServer, TestIssuer},
    on_both_databases,
    server::START,
    services::Rights,
};

const CLUSTER: &str = "https://kubernetes.default.svc.cluster.local";
const ORDERS: &str = "system:serviceaccount:shop:orders";
const BILLING: &str = "spiffe://example.org/shop/billing";

const BINDINGS: &str = r#"
    [[binding]]
    issuer = "cluster"
    subject = "system:serviceaccount:shop:orders"
    service_account = "orders"
"#;

/// Issuers in use, without a server around them.
struct Fixture {
    issuers: TrustedIssuers,
    clock: ManualClock,
    files: IssuerFiles,
    _stop: DropGuard,
}

impl Fixture {
    fn start(files: IssuerFiles) -> Self {
        let clock = ManualClock::new(START);
        let path = files.path("issuers.toml");
        let started = IssuersReloader::start(path, Clock::Manual(clock.clone()));
        let (issuers, reloader) = started.unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(reloader.run(stop.clone()));
        Self {
            issuers,
            clock,
            files,
            _stop: stop.drop_guard(),
        }
    }

    async fn judge(&self, assertion: &str) -> Result<BoundSubject, RefusalCause> {
        let judged = self.issuers.authenticate(assertion, self.clock.now());
        judged.await.map_err(|refused| refused.cause)
    }

    async fn account(&self, assertion: &str) -> Result<String, RefusalCause> {
        let bound = self.judge(assertion).await;
        bound.map(|bound| bound.service_account)
    }
}

fn now() -> i64 {
    START.seconds()
}

fn cluster(algorithm: &'static str) -> TestIssuer {
    TestIssuer::new(algorithm, "1", Some(CLUSTER))
}

/// A file that trusts `issuer` with a JWKS file.
fn files_of(issuer: &TestIssuer, more: &str) -> IssuerFiles {
    let algorithm = issuer.algorithm;
    let files = IssuerFiles::new(&format!(
        r#"
        [[issuer]]
        name = "cluster"
        issuer = "{CLUSTER}"
        audience = "countersign"
        jwks_file = "FOLDER/cluster.jwks"
        algorithms = ["{algorithm}"]
        {more}
        {BINDINGS}"#
    ));
    files.write("cluster.jwks", &issuer.jwks());
    files
}

/// A file that trusts the issuer of a JWKS server.
fn files_at(server: &JwksServer, more: &str) -> IssuerFiles {
    let url = server.url();
    IssuerFiles::new(&format!(
        r#"
        [[issuer]]
        name = "cluster"
        issuer = "{CLUSTER}"
        audience = "countersign"
        jwks_url = "{url}"
        algorithms = ["ES256"]
        {more}
        {BINDINGS}"#
    ))
}

const LOOPBACK: &str = r#"allow_networks = ["127.0.0.0/8"]"#;

/// As kube-apiserver 1.30 and later sign it: RS256, no `typ`, `aud` an array, a `jti` and claims of its own.
pub fn kubernetes_token(issuer: &TestIssuer) -> String {
    let claims = json!({
        "aud": ["countersign"], "exp": now() + 3600, "iat": now(), "iss": CLUSTER,
        "jti": "2c8c1a5e-8e0a-4a5a-9a63-3b2b5f0f6b8d",
        "kubernetes.io": {
            "namespace": "shop",
            "node": {"name": "node-1", "uid": "5f1c"},
            "pod": {"name": "orders-7d9f", "uid": "91e0"},
            "serviceaccount": {"name": "orders", "uid": "0b7a"},
        },
        "nbf": now(), "sub": ORDERS,
    });
    issuer.sign(&claims)
}

#[tokio::test]
async fn a_kubernetes_token_can_be_exchanged_several_times() {
    let issuer = cluster("RS256");
    let fixture = Fixture::start(files_of(&issuer, ""));
    let token = kubernetes_token(&issuer);
    let first = fixture.judge(&token).await.unwrap();
    assert_eq!(first.service_account, "orders");
    assert_eq!(fixture.judge(&token).await.unwrap(), first);
    assert_eq!(first.binding_id.get_version_num(), 8);
}

#[tokio::test]
async fn a_jwt_svid_needs_no_iss() {
    let mesh = TestIssuer::new("ES256", "svid", None);
    let files = IssuerFiles::new(
        r#"
        [[issuer]]
        name = "mesh"
        spiffe_trust_domain = "example.org"
        audience = "countersign"
        jwks_file = "FOLDER/bundle.jwks"
        algorithms = ["ES256"]
        [[binding]]
        issuer = "mesh"
        subject = "spiffe://example.org/shop/billing"
        service_account = "billing""#,
    );
    let mut jwk = mesh.jwk();
    jwk["use"] = json!("jwt-svid");
    let authority = json!({"kty": "EC", "use": "x509-svid", "crv": "P-256", "x": jwk["x"], "y": jwk["y"], "x5c": ["AAAA"]});
    let bundle =
        json!({"keys": [authority, jwk], "spiffe_sequence": 1, "spiffe_refresh_hint": 300});
    files.write("bundle.jwks", &bundle.to_string());
    let fixture = Fixture::start(files);
    let claims = mesh.claims(BILLING, now());
    let header = json!({"alg": "ES256", "kid": "svid", "typ": "JOSE"}).to_string();
    let svid = mesh.sign_text(&header, &claims.to_string());
    assert_eq!(fixture.account(&svid).await, Ok("billing".to_owned()));
    // SPIRE may write an `iss`, which nobody has to know.
    let mut with_issuer = claims.clone();
    with_issuer["iss"] = json!("https://spire.example.org");
    assert_eq!(
        fixture.account(&mesh.sign(&with_issuer)).await,
        Ok("billing".to_owned())
    );
    for (subject, cause) in [
        ("spiffe://example.org/shop/orders", RefusalCause::Unbound),
        (
            "spiffe://example.com/shop/billing",
            RefusalCause::UnknownIssuer,
        ),
        ("spiffe://example.org", RefusalCause::UnknownIssuer),
        ("billing", RefusalCause::UnknownIssuer),
    ] {
        let other = mesh.sign(&mesh.claims(subject, now()));
        assert_eq!(fixture.account(&other).await, Err(cause), "{subject}");
    }
}

#[tokio::test]
async fn every_pinned_algorithm_is_accepted_and_no_other() {
    for algorithm in ["RS256", "PS256", "ES256", "EdDSA"] {
        let issuer = cluster(algorithm);
        let fixture = Fixture::start(files_of(&issuer, ""));
        let claims = issuer.claims(ORDERS, now()).to_string();
        for name in issuer.key.names().iter().filter(|_| algorithm == "EdDSA") {
            let header = json!({"alg": name, "kid": "1"}).to_string();
            let assertion = issuer.sign_text(&header, &claims);
            assert_eq!(
                fixture.account(&assertion).await,
                Ok("orders".to_owned()),
                "{name}"
            );
        }
        // Clients such as Authlib send no `kid`.
        let header = json!({"alg": algorithm, "typ": "JWT"}).to_string();
        let assertion = issuer.sign_text(&header, &claims);
        assert_eq!(
            fixture.account(&assertion).await,
            Ok("orders".to_owned()),
            "{algorithm}"
        );
        for other in ["RS256", "PS256", "ES256", "EdDSA"] {
            let header = json!({"alg": other, "kid": "1"}).to_string();
            let refused = fixture.account(&issuer.sign_text(&header, &claims)).await;
            assert_eq!(
                refused.is_ok(),
                other == algorithm,
                "{algorithm} as {other}"
            );
        }
    }
}

/// What is wrong with an assertion, and the cause in the log.
fn bad_claims(good: &Value) -> Vec<(Value, RefusalCause)> {
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let without = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name);
        claims
    };
    let year = 365 * 24 * 3600;
    vec![
        (with("aud", json!(["other"])), RefusalCause::Audience),
        (with("aud", json!("Countersign")), RefusalCause::Audience),
        (with("aud", json!([])), RefusalCause::Audience),
        (
            with("iss", json!("https://evil.example")),
            RefusalCause::UnknownIssuer,
        ),
        (
            with("iss", json!(format!("{CLUSTER}/"))),
            RefusalCause::UnknownIssuer,
        ),
        (without("iss"), RefusalCause::UnknownIssuer),
        (with("exp", json!(now() - 10)), RefusalCause::Expired),
        (with("exp", json!(now() + year)), RefusalCause::TooLongLived),
        (without("exp"), RefusalCause::Malformed),
        (without("iat"), RefusalCause::Malformed),
        (with("iat", json!(now() - year)), RefusalCause::TooLongLived),
        (with("iat", json!(now() + 11)), RefusalCause::NotYetValid),
        (with("nbf", json!(now() + 11)), RefusalCause::NotYetValid),
        (
            with("sub", json!("system:serviceaccount:shop:default")),
            RefusalCause::DefaultAccount,
        ),
        (
            with("sub", json!("system:serviceaccount:shop:other")),
            RefusalCause::Unbound,
        ),
        (
            with("sub", json!(format!("{ORDERS} "))),
            RefusalCause::Unbound,
        ),
        (
            with("padding", json!("a".repeat(1024 * 1024))),
            RefusalCause::TooLong,
        ),
    ]
}

#[tokio::test]
async fn an_assertion_with_a_wrong_claim_is_refused() {
    let issuer = cluster("ES256");
    let fixture = Fixture::start(files_of(&issuer, ""));
    let good = issuer.claims(ORDERS, now());
    assert_eq!(
        fixture.account(&issuer.sign(&good)).await,
        Ok("orders".to_owned())
    );
    for (claims, cause) in bad_claims(&good) {
        let refused = fixture.account(&issuer.sign(&claims)).await;
        assert_eq!(refused, Err(cause), "{:.300}", claims.to_string());
    }
    let counted = fixture.issuers.refusals();
    assert!(counted.contains(&("not_yet_valid", 2)), "{counted:?}");
}

#[tokio::test]
async fn an_assertion_that_no_key_of_the_issuer_signed_is_refused() {
    let issuer = cluster("ES256");
    let fixture = Fixture::start(files_of(&issuer, ""));
    let claims = issuer.claims(ORDERS, now());
    let good = issuer.sign(&claims);
    let stranger = TestIssuer::new("ES256", "1", Some(CLUSTER));
    assert_eq!(
        fixture.account(&stranger.sign(&claims)).await,
        Err(RefusalCause::Signature)
    );
    let unknown = TestIssuer::new("ES256", "2", Some(CLUSTER));
    assert_eq!(
        fixture.account(&unknown.sign(&claims)).await,
        Err(RefusalCause::UnknownKey)
    );
    let text = claims.to_string();
    for (header, cause) in [
        (json!({"alg": "none"}), RefusalCause::Algorithm),
        (json!({"alg": "HS256", "kid": "1"}), RefusalCause::Algorithm),
        (
            json!({"alg": "ES256", "kid": "1", "typ": "at+jwt"}),
            RefusalCause::Type,
        ),
        (
            json!({"alg": "ES256", "kid": "1", "crit": ["b64"], "b64": false}),
            RefusalCause::Type,
        ),
    ] {
        let refused = fixture
            .account(&issuer.sign_text(&header.to_string(), &text))
            .await;
        assert_eq!(refused, Err(cause), "{header}");
    }
    // An embedded key or address of a key is not followed.
    let pointed =
        json!({"alg": "ES256", "jwk": stranger.jwk(), "jku": "http://127.0.0.1:9/"}).to_string();
    let refused = fixture.account(&stranger.sign_text(&pointed, &text)).await;
    assert_eq!(refused, Err(RefusalCause::Signature));
    // The public key as the secret of a MAC.
    for secret in issuer.key.public_as_secrets() {
        let message =
            crate::support::forge::message(br#"{"alg":"HS256","kid":"1"}"#, text.as_bytes());
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret);
        let tag = aws_lc_rs::hmac::sign(&key, message.as_bytes());
        let forged = format!("{message}.{}", crate::support::forge::encode(tag.as_ref()));
        assert_eq!(fixture.account(&forged).await, Err(RefusalCause::Algorithm));
    }
    let doubled = text.replacen('{', "{\"sub\":\"other\",", 1);
    let header = json!({"alg": "ES256", "kid": "1"}).to_string();
    let refused = fixture.account(&issuer.sign_text(&header, &doubled)).await;
    assert_eq!(refused, Err(RefusalCause::Malformed));
    let (message, _) = good.rsplit_once('.').unwrap();
    assert_eq!(
        fixture.account(&format!("{message}.")).await,
        Err(RefusalCause::Signature)
    );
    for text in ["", "..", "a.b.c", message] {
        assert_eq!(
            fixture.account(text).await,
            Err(RefusalCause::Malformed),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_single_use_assertion_is_accepted_once_also_after_a_reload() {
    let issuer = cluster("ES256");
    let fixture = Fixture::start(files_of(&issuer, "single_use = true"));
    let mut claims = issuer.claims(ORDERS, now());
    assert_eq!(
        fixture.account(&issuer.sign(&claims)).await,
        Err(RefusalCause::NoTokenId)
    );
    claims["jti"] = json!("one");
    let assertion = issuer.sign(&claims);
    assert!(fixture.account(&assertion).await.is_ok());
    assert_eq!(
        fixture.account(&assertion).await,
        Err(RefusalCause::Replayed)
    );
    let text = std::fs::read_to_string(fixture.files.path("issuers.toml")).unwrap();
    let before = fixture.issuers.last_good_reload();
    fixture.clock.advance(Duration::from_secs(1));
    let more = BINDINGS.replace("orders", "returns");
    fixture
        .files
        .write("issuers.toml", &format!("{text}{more}"));
    eventually("the file is read again", async || {
        fixture.issuers.last_good_reload() != before
    })
    .await;
    assert_eq!(
        fixture.account(&assertion).await,
        Err(RefusalCause::Replayed)
    );
    // Remembered for as long as it would be accepted, to the second.
    fixture.clock.set(START + Duration::from_secs(609));
    assert_eq!(
        fixture.account(&assertion).await,
        Err(RefusalCause::Replayed)
    );
    fixture.clock.set(START + Duration::from_secs(610));
    assert_eq!(
        fixture.account(&assertion).await,
        Err(RefusalCause::Expired)
    );
}

#[tokio::test]
async fn an_invalid_file_is_ignored_and_a_valid_one_is_used() {
    let issuer = cluster("ES256");
    let fixture = Fixture::start(files_of(&issuer, ""));
    let assertion = issuer.sign(&issuer.claims(ORDERS, now()));
    let good = std::fs::read_to_string(fixture.files.path("issuers.toml")).unwrap();
    let next = cluster("ES256");
    for (name, bad) in [
        ("issuers.toml", good.replace("audience", "audiences")),
        ("issuers.toml", good.replace("cluster.jwks", "missing.jwks")),
        ("cluster.jwks", "{\"keys\":[]}".to_owned()),
    ] {
        let failed = fixture.issuers.last_failed_reload();
        fixture.clock.advance(Duration::from_secs(1));
        fixture.files.write(name, &bad);
        eventually("the failure is noted", async || {
            fixture.issuers.last_failed_reload() != failed
        })
        .await;
        assert!(fixture.account(&assertion).await.is_ok(), "{bad}");
        fixture.files.write("issuers.toml", &good);
    }
    let renamed = good.replace(
        "service_account = \"orders\"",
        "service_account = \"shop-orders\"",
    );
    fixture.files.write("cluster.jwks", &next.jwks());
    fixture.files.write("issuers.toml", &renamed);
    let fresh = next.sign(&next.claims(ORDERS, now()));
    eventually("the new files are taken", async || {
        fixture.account(&fresh).await == Ok("shop-orders".to_owned())
    })
    .await;
    assert_eq!(
        fixture.account(&assertion).await,
        Err(RefusalCause::Signature)
    );
}

#[tokio::test]
async fn keys_behind_a_url_are_fetched_together_and_at_most_every_ten_seconds_for_an_unknown_kid() {
    let issuer = cluster("ES256");
    let server = JwksServer::start(&issuer.jwks()).await;
    let fixture = Fixture::start(files_at(&server, LOOPBACK));
    let assertion = issuer.sign(&issuer.claims(ORDERS, now()));
    let many = (0..20).map(|_| fixture.account(&assertion));
    for account in futures_util::future::join_all(many).await {
        assert_eq!(account, Ok("orders".to_owned()));
    }
    assert_eq!(server.requests(), 1);
    // A rotation: the next key is unknown until the next fetch may be made.
    let next = TestIssuer::new("ES256", "2", Some(CLUSTER));
    server.serve(&next.jwks());
    let fresh = next.sign(&next.claims(ORDERS, now()));
    for _ in 0..10 {
        assert_eq!(fixture.account(&fresh).await, Err(RefusalCause::UnknownKey));
    }
    assert_eq!(server.requests(), 1);
    fixture.clock.advance(Duration::from_secs(10));
    assert_eq!(fixture.account(&fresh).await, Ok("orders".to_owned()));
    assert_eq!(server.requests(), 2);
    assert_eq!(
        fixture.account(&assertion).await,
        Err(RefusalCause::UnknownKey),
        "a key that was rotated away"
    );
}

#[tokio::test]
async fn keys_are_kept_while_the_issuer_is_away_or_answers_badly() {
    let issuer = cluster("ES256");
    let server = JwksServer::start(&issuer.jwks()).await;
    let fixture = Fixture::start(files_at(&server, LOOPBACK));
    let assertion = issuer.sign(&issuer.claims(ORDERS, now()));
    assert!(fixture.account(&assertion).await.is_ok());
    let long = format!(
        "HTTP/1.1 200 OK\r\n\r\n{{\"keys\":[{}]}}",
        " ".repeat(10 << 20)
    );
    let other = JwksServer::start(&cluster("ES256").jwks()).await;
    let redirect = format!(
        "HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n",
        other.url()
    );
    let answers: [&[u8]; 8] = [
        long.as_bytes(),
        redirect.as_bytes(),
        b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/latest\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"keys\":[]}",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>",
        b"no HTTP at all\r\n\r\n",
    ];
    let stranger = TestIssuer::new("ES256", "2", Some(CLUSTER));
    let unknown = stranger.sign(&stranger.claims(ORDERS, now()));
    for (index, answer) in answers.iter().enumerate() {
        server.answer_with(*answer);
        fixture.clock.advance(Duration::from_secs(120));
        fixture.clock.set(START);
        assert_eq!(
            fixture.account(&unknown).await,
            Err(RefusalCause::UnknownKey)
        );
        let status = fixture.issuers.fetched();
        assert!(
            status[0].failed_fetches > index as u64,
            "{answer:.60?}: {status:?}"
        );
        assert!(fixture.account(&assertion).await.is_ok(), "{answer:.60?}");
    }
    assert_eq!(other.requests(), 0, "a redirect was followed");
    assert_eq!(fixture.issuers.fetched()[0].fetched_at, Some(START));
}

#[tokio::test]
async fn a_silent_issuer_delays_a_call_by_no_more_than_the_time_of_a_fetch() {
    let server = JwksServer::start("").await;
    server.answer_with("");
    let fixture = Fixture::start(files_at(&server, LOOPBACK));
    let issuer = cluster("ES256");
    let assertion = issuer.sign(&issuer.claims(ORDERS, now()));
    assert_eq!(
        fixture.account(&assertion).await,
        Err(RefusalCause::UnknownKey)
    );
    assert_eq!(fixture.issuers.fetched()[0].failed_fetches, 1);
}

#[tokio::test]
async fn keys_are_not_fetched_from_an_address_that_the_file_does_not_permit() {
    let issuer = cluster("ES256");
    let server = JwksServer::start(&issuer.jwks()).await;
    for more in ["", r#"allow_networks = ["10.0.0.0/8"]"#] {
        let fixture = Fixture::start(files_at(&server, more));
        let assertion = issuer.sign(&issuer.claims(ORDERS, now()));
        assert_eq!(
            fixture.account(&assertion).await,
            Err(RefusalCause::UnknownKey)
        );
        assert_eq!(fixture.issuers.fetched()[0].failed_fetches, 1);
    }
    assert_eq!(server.requests(), 0);
}

on_both_databases! {
    async fn every_bad_assertion_has_one_answer_over_grpc(database: TestDatabase) {
        let issuer = cluster("ES256");
        let files = files_of(&issuer, "");
        let variables = [("COUNTERSIGN_TRUSTED_ISSUERS_FILE", files.toml.as_str())];
        let server = TestServer::start_with(&database, &variables).await;
        let ask = async |assertion: String| {
            let request = IssueTokenRequest {
                credential: Some(Credential::ClientAssertion(assertion)),
                audiences: Vec::new(),
            };
            server.tokens().issue_token(request).await.map(tonic::Response::into_inner)
        };
        let good = issuer.claims(ORDERS, now());
        let unknown_account = ask(issuer.sign(&good)).await.unwrap_err();
        let admin = server.administrator().await;
        let rights = Rights { audiences: "countersign", ..Rights::default() };
        server.create_account(&admin, "orders", rights).await.unwrap();
        let issued = ask(issuer.sign(&good)).await.unwrap();
        assert_eq!(issued.token_type, "Bearer");
        let mut failures = vec![unknown_account];
        // The last one is longer than a gRPC message may be.
        for (claims, _) in bad_claims(&good).into_iter().filter(|(_, cause)| *cause != RefusalCause::TooLong) {
            failures.push(ask(issuer.sign(&claims)).await.unwrap_err());
        }
        for text in ["x".to_owned(), "a".repeat(20_000), TestIssuer::new("ES256", "2", Some(CLUSTER)).sign(&good)] {
            failures.push(ask(text).await.unwrap_err());
        }
        for status in failures {
            assert_eq!(failure(&status).reason, "CLIENT_CREDENTIAL_INVALID");
            assert_eq!(status.code(), tonic::Code::Unauthenticated);
        }
    }
}

#[tokio::test]
async fn without_a_file_every_assertion_is_refused() {
    let issuer = cluster("ES256");
    let refused = TrustedIssuers::none()
        .authenticate(&issuer.sign(&issuer.claims(ORDERS, now())), START)
        .await;
    assert_eq!(refused.unwrap_err().cause, RefusalCause::NoIssuers);
    assert!(matches!(issuer.key, Key::Es256(_)));
}

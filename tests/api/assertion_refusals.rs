//! Assertions that are refused: their sender learns one code and one message, and the log has the cause.

use std::{collections::BTreeSet, time::Duration};

use aws_lc_rs::hmac;
use countersign::{
    clock::Clock,
    grpc::pb::{
        IssueTokenRequest, issue_token_request::Credential,
        token_service_client::TokenServiceClient,
    },
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::Instant;
use tonic::Code;

use crate::{
    assertions::{self, CLUSTER, ORDERS, issue},
    support::{
        TestDatabase, TestServer, failure,
        forge::{encode, message},
        issuer::{IssuerFiles, JwksServer, TestIssuer},
        on_both_databases,
        process::TestProcess,
        services::Rights,
    },
};

const CI: &str = "https://ci.example.com";

/// Trusts a cluster whose keys are behind a URL, and a CI service whose assertions are good once.
fn files_of(keys: &JwksServer, ci: &TestIssuer) -> IssuerFiles {
    let url = keys.url();
    let files = IssuerFiles::new(&format!(
        r#"
        [[issuer]]
        name = "cluster"
        issuer = "{CLUSTER}"
        audience = "countersign"
        jwks_url = "{url}"
        allow_networks = ["127.0.0.0/8"]
        algorithms = ["ES256"]

        [[issuer]]
        name = "ci"
        issuer = "{CI}"
        audience = "countersign"
        jwks_file = "FOLDER/ci.jwks"
        algorithms = ["ES256"]
        single_use = true

        [[binding]]
        issuer = "cluster"
        subject = "{ORDERS}"
        service_account = "orders"

        [[binding]]
        issuer = "ci"
        subject = "{ORDERS}"
        service_account = "orders"
        "#
    ));
    files.write("ci.jwks", &ci.jwks());
    files
}

/// Good claims under headers and signatures that are none, or with members that stand twice.
fn forged(issuer: &TestIssuer, claims: &Value) -> Vec<(String, String)> {
    let text = claims.to_string();
    let header = json!({"alg": "ES256", "kid": issuer.kid}).to_string();
    let none = message(br#"{"alg":"none"}"#, text.as_bytes());
    let mut forged = vec![
        ("alg none".to_owned(), format!("{none}.")),
        (
            "alg none, signed".to_owned(),
            issuer.sign_text(r#"{"alg":"none"}"#, &text),
        ),
    ];
    for (number, secret) in issuer.key.public_as_secrets().iter().enumerate() {
        let header = json!({"alg": "HS256", "kid": issuer.kid}).to_string();
        let signed = message(header.as_bytes(), text.as_bytes());
        let tag = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, secret),
            signed.as_bytes(),
        );
        let assertion = format!("{signed}.{}", encode(tag.as_ref()));
        forged.push((
            format!("HS256 with form {number} of the public key"),
            assertion,
        ));
    }
    for member in ["sub", "iss", "aud", "exp"] {
        let doubled = text.replacen('{', &format!("{{\"{member}\":{},", claims[member]), 1);
        forged.push((
            format!("{member} twice"),
            issuer.sign_text(&header, &doubled),
        ));
    }
    let doubled = header.replacen('{', "{\"alg\":\"ES256\",", 1);
    forged.push(("alg twice".to_owned(), issuer.sign_text(&doubled, &text)));
    let mut long = claims.clone();
    long["padding"] = json!("a".repeat(1024 * 1024));
    forged.push(("1 MB of claims".to_owned(), issuer.sign(&long)));
    forged
}

on_both_databases! {
    async fn every_forged_old_or_repeated_assertion_gets_one_code_and_one_message(database: TestDatabase) {
        let (issuer, ci) = (TestIssuer::new("ES256", "1", Some(CLUSTER)), TestIssuer::new("ES256", "1", Some(CI)));
        let keys = JwksServer::start(&issuer.jwks()).await;
        let files = files_of(&keys, &ci);
        let server = TestServer::start_with(&database, &[
            ("COUNTERSIGN_TRUSTED_ISSUERS_FILE", files.toml.as_str()),
            // By default gRPC itself refuses what is longer than 64 KiB, whatever it is.
            ("COUNTERSIGN_MAX_MESSAGE_SIZE", "4194304"),
        ]).await;
        let admin = server.administrator().await;
        server.create_account(&admin, "orders", Rights::default()).await.unwrap();
        let now = server.clock.now().seconds();
        let claims = issuer.claims(ORDERS, now);
        let mut bad = forged(&issuer, &claims);

        let mut once = ci.claims(ORDERS, now);
        once["jti"] = json!("once");
        let repeated = ci.sign(&once);
        issue(&server, &repeated).await.expect("the first time");
        bad.push(("a jti again".to_owned(), repeated));

        let good = issuer.sign(&claims);
        issue(&server, &good).await.expect("the key is still in use");
        let next = TestIssuer::new("ES256", "2", Some(CLUSTER));
        keys.serve(&next.jwks());
        server.clock.advance(Duration::from_secs(10));
        issue(&server, &next.sign(&claims)).await.expect("the next key is in use");
        bad.push(("a key that was rotated away".to_owned(), good));
        // Forged by the names of a key that is in use, too.
        bad.extend(forged(&next, &claims));

        for (what, assertion) in bad {
            let Err(status) = issue(&server, &assertion).await else { panic!("{what} is accepted") };
            let failure = failure(&status);
            assert_eq!(
                (failure.code, failure.message.as_str(), failure.reason.as_str()),
                (Code::Unauthenticated, "The credential of the service is not valid.", "CLIENT_CREDENTIAL_INVALID"),
                "{what}",
            );
            let metadata = failure.details.error_info().unwrap().metadata.clone();
            assert!(metadata.is_empty(), "{what}: {metadata:?}");
        }
    }

    async fn the_log_names_the_cause_of_a_refused_assertion_and_its_issuer(database: TestDatabase) {
        let issuer = TestIssuer::new("ES256", "1", Some(CLUSTER));
        let files = assertions::files_of(&issuer);
        let began = Instant::now();
        let (server, recording) = TestProcess::start_recorded(&database, &[
            ("COUNTERSIGN_TRUSTED_ISSUERS_FILE", files.toml.as_str()),
            ("COUNTERSIGN_LOG_FORMAT", "json"),
        ]).await;
        let claims = issuer.claims(ORDERS, Clock::System.now().seconds());
        let with = |name: &str, value: Value| {
            let mut claims = claims.clone();
            claims[name] = value;
            issuer.sign(&claims)
        };
        let text = claims.to_string();
        let stranger = TestIssuer::new("ES256", "1", Some(CLUSTER));
        let bad = [
            ("algorithm", None, issuer.sign_text(r#"{"alg":"none"}"#, &text)),
            ("malformed", None, "a.b.c".to_owned()),
            ("unknown_issuer", None, with("iss", json!("https://evil.example"))),
            ("signature", Some("cluster"), stranger.sign(&claims)),
            ("unknown_key", Some("cluster"), TestIssuer::new("ES256", "2", Some(CLUSTER)).sign(&claims)),
            ("audience", Some("cluster"), with("aud", json!("other"))),
            ("expired", Some("cluster"), with("exp", json!(1))),
            ("unbound_subject", Some("cluster"), with("sub", json!("system:serviceaccount:shop:other"))),
        ];
        let mut tokens = TokenServiceClient::new(server.channel.clone());
        for _ in 0..3 {
            for (cause, _, assertion) in &bad {
                let credential = Some(Credential::ClientAssertion(assertion.clone()));
                let request = IssueTokenRequest { credential, audiences: Vec::new() };
                let status = tokens.issue_token(request).await.unwrap_err();
                assert_eq!(failure(&status).reason, "CLIENT_CREDENTIAL_INVALID", "{cause}");
            }
        }
        assert_eq!(server.end(Signal::TERM).await, Some(0));
        // One line in ten seconds for each cause.
        let most = 1 + began.elapsed().as_secs() / 10;

        let (_, errors) = recording.finish().await;
        let lines: Vec<Value> = errors.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let refused: Vec<_> = lines
            .iter()
            .filter(|line| line["message"] == "an assertion of a service was refused")
            .map(|line| (line["cause"].as_str().unwrap(), line["issuer"].as_str()))
            .collect();
        let expected = bad.iter().map(|(cause, issuer, _)| (*cause, *issuer));
        let expected: BTreeSet<_> = expected.collect();
        assert_eq!(refused.iter().copied().collect::<BTreeSet<_>>(), expected, "{errors}");
        for cause in expected {
            let count = refused.iter().filter(|line| **line == cause).count() as u64;
            assert!(count <= most, "{cause:?}: {count} lines, where {most} are allowed");
        }
        for (cause, _, assertion) in &bad {
            let payload = assertion.split('.').nth(1).unwrap();
            assert!(payload.len() < 8 || !errors.contains(payload), "{cause}: the assertion was written");
        }
    }
}

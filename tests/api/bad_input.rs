//! Hostile and odd text in every field: a clear INVALID_ARGUMENT that names the field, or success.

use countersign::grpc::pb::{LoginRequest, RegisterRequest, ValidateTokenRequest};
use tonic::{Code, Status};

use crate::support::{PASSWORD, TestDatabase, TestServer, failure, on_both_databases, reason};

const NASTY: [&str; 12] = [
    "",
    "\0",
    "a\0b",
    "\u{7}",
    "line\r\nbreak",
    "\u{202e}gpj.exe",
    "\u{2066}isolate",
    "👩‍👩‍👧‍👦🏳️‍🌈",
    "cafe\u{301}",
    "ﬀ ℌ ①",
    "'; DROP TABLE users; --",
    "\u{feff}bom",
];

fn nasty() -> Vec<String> {
    let mut texts: Vec<String> = NASTY.iter().map(|text| (*text).to_owned()).collect();
    texts.push("x".repeat(1 << 20));
    texts.push("\u{fdfa}".repeat(1 << 18));
    texts.push("é".repeat(300));
    texts
}

/// A call either succeeded or named the one field that was bad.
fn assert_clear(outcome: Result<(), Status>, field: &str) {
    let Err(status) = outcome else { return };
    let failure = failure(&status);
    assert_eq!(failure.code, Code::InvalidArgument, "{status:?}");
    let violations = &failure.details.bad_request().unwrap().field_violations;
    assert_eq!(violations.len(), 1);
    assert_eq!(violations[0].field, field);
    assert!(!violations[0].description.is_empty());
}

on_both_databases! {
    async fn every_field_of_register_takes_anything(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        for (i, text) in nasty().into_iter().enumerate() {
            let good = RegisterRequest {
                email: format!("user{i}@example.org"),
                password: PASSWORD.to_owned(),
                display_name: "Ada".to_owned(),
            };
            let with_name = RegisterRequest { display_name: text.clone(), ..good.clone() };
            assert_clear(server.auth().register(with_name).await.map(drop), "display_name");
            let with_password = RegisterRequest {
                password: text.clone(), email: format!("p{i}@example.org"), ..good.clone()
            };
            assert_clear(server.auth().register(with_password).await.map(drop), "password");
            let with_email = RegisterRequest { email: text, ..good };
            let refused = server.auth().register(with_email).await.unwrap_err();
            assert_clear(Err(refused), "email");
        }
    }

    async fn every_field_of_login_takes_anything(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[("COUNTERSIGN_ACCOUNT_FAILURE_LIMIT", "1000")]).await;
        server.register("ada@example.org").await.unwrap();
        for text in nasty() {
            let good = LoginRequest {
                email: "ada@example.org".to_owned(),
                password: PASSWORD.to_owned(),
                device_label: String::new(),
            };
            let with_label = LoginRequest { device_label: text.clone(), ..good.clone() };
            assert_clear(server.auth().login(with_label).await.map(drop), "device_label");
            let with_email = LoginRequest { email: text.clone(), ..good.clone() };
            assert_clear(Err(server.auth().login(with_email).await.unwrap_err()), "email");
            let with_password = LoginRequest { password: text, ..good };
            let status = server.auth().login(with_password).await.unwrap_err();
            if failure(&status).reason != "INVALID_CREDENTIALS" {
                assert_clear(Err(status), "password");
            }
        }
    }

    async fn every_token_field_takes_anything(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        for text in nasty() {
            assert_eq!(reason(server.refresh(&text).await), "REFRESH_TOKEN_INVALID");
            assert_eq!(reason(server.logout(&text).await), "REFRESH_TOKEN_INVALID");
            let expected = if text.is_empty() { "TOKEN_MISSING" } else { "TOKEN_INVALID" };
            assert_eq!(reason(server.validate(&text).await), expected);
            if !text.is_empty() {
                let request = |audience: &str, role: Option<&str>| ValidateTokenRequest {
                    access_token: tokens.access_token.clone(),
                    audience: audience.to_owned(),
                    required_roles: role.map(str::to_owned).into_iter().collect(),
                };
                let audience = server.auth().validate_token(request(&text, None)).await;
                assert_eq!(reason(audience), "TOKEN_INVALID");
                let role = server.auth().validate_token(request("", Some(&text))).await;
                assert_eq!(reason(role), "INSUFFICIENT_ROLE");
            }
        }
        server.validate(&tokens.access_token).await.unwrap();
    }
}

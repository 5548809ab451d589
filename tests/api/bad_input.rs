//! Hostile and unusual text in every field: success, or an INVALID_ARGUMENT that names the field.

use countersign::grpc::pb::{LoginRequest, RegisterRequest, ValidateTokenRequest};
use tonic::{Code, Request, Status, client::Grpc, metadata::MetadataValue};

use crate::support::{PASSWORD, TestDatabase, TestServer, failure, on_both_databases, reason};

const UNUSUAL_TEXTS: [&str; 12] = [
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

fn unusual_texts() -> Vec<String> {
    let mut texts: Vec<String> = UNUSUAL_TEXTS
        .iter()
        .map(|text| (*text).to_owned())
        .collect();
    texts.push("x".repeat(50_000));
    texts.push("\u{fdfa}".repeat(1 << 14));
    texts.push("é".repeat(300));
    texts
}

/// The call succeeded, or its status names this field and no other.
fn assert_names_only(outcome: Result<(), Status>, field: &str) {
    let Err(status) = outcome else { return };
    let failure = failure(&status);
    assert_eq!(failure.code, Code::InvalidArgument, "{status:?}");
    let violations = &failure.details.bad_request().unwrap().field_violations;
    assert_eq!(violations.len(), 1);
    assert_eq!(violations[0].field, field);
    assert!(!violations[0].description.is_empty());
}

on_both_databases! {
    async fn unusual_text_in_a_field_of_register_is_accepted_or_named(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        for (i, text) in unusual_texts().into_iter().enumerate() {
            let good = RegisterRequest {
                email: format!("user{i}@example.org"),
                password: PASSWORD.to_owned(),
                display_name: "Ada".to_owned(),
            };
            let with_name = RegisterRequest { display_name: text.clone(), ..good.clone() };
            assert_names_only(server.auth().register(with_name).await.map(drop), "display_name");
            let with_password = RegisterRequest {
                password: text.clone(), email: format!("p{i}@example.org"), ..good.clone()
            };
            assert_names_only(server.auth().register(with_password).await.map(drop), "password");
            let with_email = RegisterRequest { email: text, ..good };
            let refused = server.auth().register(with_email).await.unwrap_err();
            assert_names_only(Err(refused), "email");
        }
    }

    async fn unusual_text_in_a_field_of_login_is_accepted_or_named(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[("COUNTERSIGN_ACCOUNT_FAILURE_LIMIT", "1000")]).await;
        server.register("ada@example.org").await.unwrap();
        for text in unusual_texts() {
            let good = LoginRequest {
                email: "ada@example.org".to_owned(),
                password: PASSWORD.to_owned(),
                device_label: String::new(),
                ..LoginRequest::default()
            };
            let with_label = LoginRequest { device_label: text.clone(), ..good.clone() };
            assert_names_only(server.auth().login(with_label).await.map(drop), "device_label");
            let with_device = LoginRequest { device_token: text.clone(), ..good.clone() };
            server.auth().login(with_device).await.expect("an invalid device token counts as none");
            let with_email = LoginRequest { email: text.clone(), ..good.clone() };
            assert_names_only(Err(server.auth().login(with_email).await.unwrap_err()), "email");
            let with_password = LoginRequest { password: text, ..good };
            let status = server.auth().login(with_password).await.unwrap_err();
            if failure(&status).reason != "INVALID_CREDENTIALS" {
                assert_names_only(Err(status), "password");
            }
        }
    }

    async fn unusual_text_instead_of_a_token_audience_or_role_is_refused(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        for text in unusual_texts() {
            assert_eq!(reason(server.refresh(&text).await), "REFRESH_TOKEN_INVALID");
            assert_eq!(reason(server.logout(&text).await), "REFRESH_TOKEN_INVALID");
            let expected = if text.is_empty() { "TOKEN_MISSING" } else { "TOKEN_INVALID" };
            assert_eq!(reason(server.validate(&text).await), expected);
            if !text.is_empty() {
                let request = |audience: &str, role: Option<&str>| ValidateTokenRequest {
                    access_token: tokens.access_token.clone(),
                    audience: audience.to_owned(),
                    required_roles: role.map(str::to_owned).into_iter().collect(),
                    ..Default::default()
                };
                let audience = server.auth().validate_token(request(&text, None)).await;
                assert_eq!(reason(audience), "TOKEN_INVALID");
                let role = server.auth().validate_token(request("", Some(&text))).await;
                assert_eq!(reason(role), "INSUFFICIENT_ROLE");
            }
        }
        server.validate(&tokens.access_token).await.unwrap();
    }

    async fn names_are_trimmed_and_stored_in_nfc(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let names = [
            ("", ""),
            ("  Ada  ", "Ada"),
            ("Ame\u{301}lie", "Am\u{e9}lie"),
            ("\u{212b}ngstr\u{f6}m", "\u{c5}ngstr\u{f6}m"),
            ("👩‍👩‍👧‍👦🏳️‍🌈", "👩‍👩‍👧‍👦🏳️‍🌈"),
            ("ﬀ ℌ ①", "ﬀ ℌ ①"),
            ("שלום عليكم", "שלום عليكم"),
            ("'; DROP TABLE users; --", "'; DROP TABLE users; --"),
            ("%s %n {{7*7}} <script>", "%s %n {{7*7}} <script>"),
        ];
        for (i, (typed, kept)) in names.into_iter().enumerate() {
            let request = RegisterRequest {
                email: format!("user{i}@example.org"),
                password: PASSWORD.to_owned(),
                display_name: typed.to_owned(),
            };
            let user = server.auth().register(request).await.unwrap().into_inner().user.unwrap();
            assert_eq!(user.display_name, kept);
            let label = LoginRequest {
                email: format!("user{i}@example.org"),
                password: PASSWORD.to_owned(),
                device_label: typed.to_owned(),
                ..LoginRequest::default()
            };
            let user = server.auth().login(label).await.unwrap().into_inner().user.unwrap();
            assert_eq!(user.display_name, kept);
        }
    }

    async fn a_password_may_contain_any_character_but_nul_in_any_unicode_form(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let composed = "\u{202e}👩‍👧 l\u{ee}ne\r\n\u{7}\u{feff} \u{c5}ngstr\u{f6}m ffi caf\u{e9} \u{1f}";
        let decomposed = "\u{202e}👩‍👧 li\u{302}ne\r\n\u{7}\u{feff} A\u{30a}ngstro\u{308}m \u{fb03} cafe\u{301} \u{1f}";
        for (i, (registered, typed)) in [(composed, decomposed), (decomposed, composed)].into_iter().enumerate() {
            let email = format!("zoe{i}@example.org");
            let request = RegisterRequest {
                email: email.clone(),
                password: registered.to_owned(),
                display_name: String::new(),
            };
            server.auth().register(request).await.unwrap();
            server.login_as(&email, typed).await.unwrap();
            let other = typed.replace('\u{7}', "");
            assert_eq!(reason(server.login_as(&email, &other).await), "INVALID_CREDENTIALS");
        }
    }

    async fn an_email_address_in_another_unicode_form_is_the_same_account(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        server.register("zo\u{eb}@example.org").await.unwrap();
        for variant in ["zoe\u{308}@example.org", "ZO\u{cb}@EXAMPLE.ORG", "\u{ff5a}o\u{eb}@example.org"] {
            server.login(variant).await.unwrap();
            assert_eq!(reason(server.register(variant).await), "EMAIL_TAKEN");
        }
    }

    async fn unusual_metadata_does_not_fail_a_call(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        let long = "x".repeat(4_000);
        for name in [
            "x-request-id", "x-forwarded-for", "traceparent", "tracestate", "grpc-timeout", "grpc-encoding-x",
            "authorization", "forwarded", "baggage", "cookie",
        ] {
            for value in ["", " ", "\u{e9}\u{202e}", "\t", "'; --", "%00", "-1S", "99999999H", "00-0-0-0", &long] {
                let Ok(value) = MetadataValue::try_from(value.as_bytes()) else {
                    continue;
                };
                let mut request = Request::new(ValidateTokenRequest {
                    access_token: tokens.access_token.clone(),
                    ..ValidateTokenRequest::default()
                });
                request.metadata_mut().insert(name, value);
                server.auth().validate_token(request).await.unwrap();
            }
        }
    }

    async fn malformed_protobuf_fails_its_call_and_not_the_connection(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        for bytes in [vec![0xff, 0xfe], b"secret-\xc3".to_vec(), vec![0; 50_000], vec![0x80; 64]] {
            for method in ["Register", "Login", "Refresh", "ValidateToken", "Logout"] {
                let mut raw = Grpc::new(server.channel.clone());
                raw.ready().await.unwrap();
                let path = format!("/countersign.auth.v1.AuthService/{method}").parse().unwrap();
                let codec = tonic_prost::ProstCodec::<NotText, ValidateTokenRequest>::default();
                let message = NotText { first: bytes.clone() };
                let status = raw.unary(Request::new(message), path, codec).await.unwrap_err();
                let failure = failure(&status);
                let is_token = matches!(method, "Refresh" | "ValidateToken" | "Logout");
                let expected = if is_token { Code::Unauthenticated } else { Code::InvalidArgument };
                let codes = [Code::InvalidArgument, expected];
                assert!(codes.contains(&failure.code), "{method}: {status:?}");
                assert!(!status.message().contains("secret"), "{status:?}");
            }
        }
        server.signed_in("ada@example.org").await;
    }
}

/// A message whose first field has the wire type of text and holds any bytes.
#[derive(Clone, PartialEq, prost::Message)]
struct NotText {
    #[prost(bytes = "vec", tag = "1")]
    first: Vec<u8>,
}

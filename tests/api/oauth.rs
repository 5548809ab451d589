//! The OAuth endpoints as client libraries use them. What these demand was found by running them; `scripts/interop` runs them
//! again.

use std::{fmt::Write as _, net::SocketAddr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use countersign::grpc::pb::{LogoutRequest, TokenPair};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    TestDatabase, TestServer,
    issuer::{IssuerFiles, TestIssuer},
    on_both_databases,
    process::{TestProcess, run},
    server::START,
    services::{Rights, Service},
    web::{Answer, get, send},
};

const TOKEN: &str = "/oauth2/token";
const INTROSPECT: &str = "/oauth2/introspect";
const GRANT: &str = "grant_type=client_credentials";
const EXCHANGE: &str = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange\
    &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token";
const AUDIENCES: (&str, &str) = ("COUNTERSIGN_AUDIENCES", "countersign,billing");

/// A server with a service that may do everything here.
struct Fixture {
    server: TestServer,
    admin: String,
    orders: Service,
}

impl Fixture {
    async fn start(database: &TestDatabase) -> Self {
        Self::start_with(database, &[]).await
    }

    async fn start_with(database: &TestDatabase, variables: &[(&str, &str)]) -> Self {
        let variables = [&[AUDIENCES][..], variables].concat();
        let server = TestServer::start_with(database, &variables).await;
        let admin = server.administrator().await;
        let rights = Rights {
            roles: "reader verifier",
            audiences: "billing countersign",
            act_for_users_at: "billing",
        };
        let orders = server.service(&admin, "orders", rights).await;
        Self {
            server,
            admin,
            orders,
        }
    }

    /// `POST` of a form; `headers` are further header lines, each ended by CR LF.
    async fn post(&self, path: &str, headers: &str, body: &str) -> Answer {
        let kind = "content-type: application/x-www-form-urlencoded\r\n";
        self.post_raw(path, &format!("{kind}{headers}"), body).await
    }

    async fn post_raw(&self, path: &str, headers: &str, body: &str) -> Answer {
        post(self.server.http(), path, headers, body).await
    }

    fn basic(&self) -> String {
        basic(&format!("orders:{}", self.orders.secret))
    }

    /// Asks for a token with Basic.
    async fn ask(&self, more: &str) -> Answer {
        self.post(TOKEN, &self.basic(), &format!("{GRANT}{more}"))
            .await
    }

    async fn claims_of(&self, answer: &Answer) -> Value {
        let token = granted(answer);
        let bearer = format!("authorization: Bearer {token}\r\n");
        let said = self
            .post(INTROSPECT, &bearer, &format!("token={token}"))
            .await;
        assert_eq!(said.status, 200, "{said:?}");
        said.json()
    }

    async fn user(&self) -> TokenPair {
        self.server.signed_in("ada@example.org").await
    }
}

async fn post(address: SocketAddr, path: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    send(address, &format!("{head}{body}")).await
}

fn basic(text: &str) -> String {
    format!("authorization: Basic {}\r\n", STANDARD.encode(text))
}

/// Every character in the form `%XX`, as a client may encode an id or secret.
fn all_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        write!(encoded, "%{byte:02x}").unwrap();
        encoded
    })
}

/// The token of a good answer, after checking what every library demands of one.
fn granted(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("pragma"), "no-cache");
    let body = answer.json();
    assert_eq!(body["token_type"], "Bearer");
    assert!(body["expires_in"].as_i64().unwrap() >= 120, "{body}");
    assert!(!answer.body.contains("null"), "{body}");
    assert!(body.get("refresh_token").is_none());
    body["access_token"].as_str().unwrap().to_owned()
}

/// Checks an error as RFC 6749 section 5.2 has it, and returns its description.
#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str) -> String {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(
        answer.header("content-type"),
        "application/json",
        "{answer:?}"
    );
    assert_eq!(answer.header("cache-control"), "no-store");
    let body = answer.json();
    assert_eq!(body["error"], code, "{body}");
    body["error_description"].as_str().unwrap().to_owned()
}

on_both_databases! {
    async fn a_key_is_accepted_by_basic_and_by_form_whether_it_is_percent_encoded_or_not(database: TestDatabase) {
        let fixture = Fixture::start(&database).await;
        let secret = &fixture.orders.secret;
        assert!(secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)));
        let encoded = all_encoded(secret);
        for text in [
            format!("orders:{secret}"),
            format!("orders:{encoded}"),
            format!("{}:{encoded}", all_encoded("orders")),
        ] {
            granted(&fixture.post(TOKEN, &basic(&text), GRANT).await);
        }
        for secret in [secret, &encoded] {
            let body = format!("{GRANT}&client_id=orders&client_secret={secret}");
            granted(&fixture.post(TOKEN, "", &body).await);
        }
        // The same id beside Basic, a charset, and what libraries call themselves.
        let body = format!("{GRANT}&client_id=orders");
        granted(&fixture.post(TOKEN, &fixture.basic(), &body).await);
        let headers = format!("content-type: application/x-www-form-urlencoded;charset=UTF-8\r\nuser-agent: Go-browser\r\n{}", fixture.basic());
        granted(&fixture.post_raw(TOKEN, &headers, GRANT).await);
    }

    async fn a_wrong_credential_is_invalid_client_with_a_challenge_only_after_basic(database: TestDatabase) {
        let fixture = Fixture::start(&database).await;
        let secret = &fixture.orders.secret;
        let by_basic = |text: &str| (basic(text), GRANT.to_owned());
        let by_form = |text: &str| (String::new(), format!("{GRANT}&{text}"));
        let mut descriptions = Vec::new();
        for (headers, body) in [
            by_basic("orders:csk_wrong"),
            by_basic(&format!("billing:{secret}")),
            by_basic(&format!("orders:{}", secret.to_lowercase())),
            by_form("client_id=orders&client_secret=csk_wrong"),
            by_form(&format!("client_id=Orders&client_secret={secret}")),
            by_form("client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer&client_assertion=a.b.c"),
        ] {
            let answer = fixture.post(TOKEN, &headers, &body).await;
            descriptions.push(refused(&answer, 401, "invalid_client"));
            let challenge = answer.header("www-authenticate");
            assert_eq!(challenge.starts_with("Basic"), !headers.is_empty(), "{body}");
        }
        descriptions.dedup();
        assert_eq!(descriptions, ["the client credential is not accepted"]);
        let none = fixture.post(TOKEN, "", &format!("{GRANT}&client_id=orders")).await;
        refused(&none, 401, "invalid_client");
        assert_eq!(none.header("www-authenticate"), "");
        fixture.server.revoke_key(&fixture.admin, &fixture.orders.key).await.unwrap();
        refused(&fixture.ask("").await, 401, "invalid_client");
    }

    async fn failed_requests_do_not_lock_a_client_out(database: TestDatabase) {
        let fixture = Fixture::start(&database).await;
        for _ in 0..50 {
            let answer = fixture.post(TOKEN, &basic("orders:csk_wrong"), GRANT).await;
            refused(&answer, 401, "invalid_client");
        }
        granted(&fixture.ask("").await);
    }

    async fn too_many_calls_are_refused_before_anything_is_read_and_refusals_do_not_count(database: TestDatabase) {
        let rate = [("COUNTERSIGN_TOKEN_RATE_PER_SECOND", "1"), ("COUNTERSIGN_TOKEN_RATE_BURST", "1")];
        let fixture = Fixture::start_with(&database, &rate).await;
        // Not even a form: this would be an `invalid_request`.
        let calls = (0..50).map(|_| fixture.post_raw(TOKEN, "content-type: text/plain\r\n", "x"));
        let answers = futures_util::future::join_all(calls).await;
        let (limited, others): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 429);
        assert!(!limited.is_empty(), "fifty calls at once are more than one a second");
        for answer in limited {
            refused(answer, 429, "temporarily_unavailable");
            assert_eq!(answer.header("retry-after"), "1");
        }
        for answer in others {
            refused(answer, 400, "invalid_request");
        }
        crate::support::eventually("the next call is let through", async || {
            fixture.ask("").await.status == 200
        })
        .await;
    }

    async fn more_than_one_credential_and_repeated_parameters_are_an_invalid_request(database: TestDatabase) {
        let fixture = Fixture::start(&database).await;
        let secret = &fixture.orders.secret;
        for more in [
            format!("&client_id=orders&client_secret={secret}"),
            "&client_id=billing".to_owned(),
            "&client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer&client_assertion=a.b.c".to_owned(),
            "&grant_type=client_credentials".to_owned(),
            "&x=%ff".to_owned(),
        ] {
            refused(&fixture.ask(&more).await, 400, "invalid_request");
        }
    }

    async fn an_unsupported_grant_type_or_content_type_is_refused(database: TestDatabase) {
        let fixture = Fixture::start(&database).await;
        for grant in ["refresh_token&refresh_token=x", "refresh_token&refresh_token=", "password", "authorization_code&code=x"] {
            let answer = fixture.post(TOKEN, &fixture.basic(), &format!("grant_type={grant}")).await;
            refused(&answer, 400, "unsupported_grant_type");
        }
        for body in ["", "grant_type=", "scope=reader"] {
            let answer = fixture.post(TOKEN, &fixture.basic(), body).await;
            assert_eq!(refused(&answer, 400, "invalid_request"), "the parameter grant_type is missing");
        }
        for kind in ["application/json", "text/plain", "multipart/form-data"] {
            let headers = format!("content-type: {kind}\r\n{}", fixture.basic());
            refused(&fixture.post_raw(TOKEN, &headers, GRANT).await, 400, "invalid_request");
        }
    }

    async fn scopes_are_granted_exactly_or_refused(database: TestDatabase) {
        let fixture = Fixture::start(&database).await;
        for scope in ["reader+verifier", "verifier%20reader"] {
            let answer = fixture.ask(&format!("&scope={scope}")).await;
            granted(&answer);
            let scope = scope.replace(['+'], " ").replace("%20", " ");
            assert_eq!(answer.json()["scope"], scope);
        }
        for scope in ["", "&scope=", "&scope=&refresh_token=&audience="] {
            let answer = fixture.ask(scope).await;
            granted(&answer);
            assert_eq!(answer.json().get("scope"), None);
        }
        for scope in ["reader", "reader+verifier+admin", "admin", "openid"] {
            refused(&fixture.ask(&format!("&scope={scope}")).await, 400, "invalid_scope");
        }
    }

    async fn without_an_audience_the_token_is_for_the_first_one_of_the_account(database: TestDatabase) {
        let fixture = Fixture::start(&database).await;
        let first = fixture.claims_of(&fixture.ask("").await).await;
        assert_eq!(first["aud"], json!(["billing"]));
        assert_eq!(first["client_id"], "orders");
        for more in ["&audience=countersign", "&resource=countersign", "&audience=countersign&resource=countersign"] {
            let named = fixture.claims_of(&fixture.ask(more).await).await;
            assert_eq!(named["aud"], json!(["countersign"]), "{more}");
        }
        let both = fixture.claims_of(&fixture.ask("&audience=countersign&audience=billing").await).await;
        assert_eq!(both["aud"].as_array().unwrap().len(), 2);
        for more in ["&audience=other", "&audience=billing&resource=https://other.example"] {
            refused(&fixture.ask(more).await, 400, "invalid_target");
        }
    }

    async fn a_renewal_without_an_audience_and_a_refusal_are_logged_and_no_key_or_token_is(database: TestDatabase) {
        let trace = [("COUNTERSIGN_LOG", "trace")];
        let (server, recording) = TestProcess::start_recorded(&database, &trace).await;
        let created = run(&database, &[], &["service-accounts", "create", "orders"]).await;
        assert!(created.status.success());
        let made = run(&database, &[], &["service-keys", "create", "orders", "--expires-in", "1d"]).await;
        let key = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        let kind = "content-type: application/x-www-form-urlencoded\r\n";
        let ask = async |secret: &str, more: &str| {
            let body = format!("{GRANT}{more}");
            let headers = format!("{kind}{}", basic(&format!("orders:{secret}")));
            post(server.http(), TOKEN, &headers, &body).await
        };
        let token = granted(&ask(&key, "&audience=countersign").await);
        granted(&ask(&key, "").await);
        let wrong = key.replace("csk_", "csk-");
        refused(&ask(&wrong, "").await, 401, "invalid_client");
        assert_eq!(server.end(Signal::TERM).await, Some(0));
        let (output, errors) = recording.finish().await;
        for line in ["a client that requested an audience before requested none", "a client credential was refused"] {
            assert_eq!(errors.matches(line).count(), 1, "{errors}");
        }
        let said = format!("{output}{errors}");
        let signature = token.rsplit('.').next().unwrap();
        let encoded = basic(&format!("orders:{key}"));
        for secret in [&key[10..40], &encoded[40..70], signature] {
            assert!(!said.contains(secret), "{secret} was written");
        }
    }

    async fn nothing_is_redirected_and_bodies_are_bounded(database: TestDatabase) {
        let fixture = Fixture::start(&database).await;
        for path in [TOKEN, INTROSPECT] {
            let slash = fixture.post(&format!("{path}/"), &fixture.basic(), GRANT).await;
            assert_eq!(slash.status, 404);
            let fetched = get(fixture.server.http(), path).await;
            assert_eq!((fetched.status, fetched.header("allow")), (405, "POST"));
            let long = format!("{GRANT}&x={}", "a".repeat(64 * 1024));
            refused(&fixture.post(path, &fixture.basic(), &long).await, 413, "invalid_request");
        }
        // Without any Accept, and with one that is not ours: never 406.
        let headers = format!("accept: text/html\r\n{}", fixture.basic());
        granted(&fixture.post(TOKEN, &headers, GRANT).await);
    }

    async fn the_metadata_name_the_endpoints_below_the_issuer(database: TestDatabase) {
        let issuer = [("COUNTERSIGN_ISSUER", "https://auth.example.com/shop")];
        let fixture = Fixture::start_with(&database, &issuer).await;
        let metadata = get(fixture.server.http(), "/.well-known/oauth-authorization-server/shop").await.json();
        assert_eq!(metadata["token_endpoint"], "https://auth.example.com/shop/oauth2/token");
        assert_eq!(metadata["introspection_endpoint"], "https://auth.example.com/shop/oauth2/introspect");
        let algorithms = metadata["token_endpoint_auth_signing_alg_values_supported"].as_array().unwrap();
        assert!(algorithms.contains(&json!("EdDSA")) && algorithms.contains(&json!("Ed25519")));
        let methods = metadata["token_endpoint_auth_methods_supported"].as_array().unwrap();
        assert!(methods.contains(&json!("client_secret_basic")) && methods.contains(&json!("private_key_jwt")));
        assert!(!metadata["grant_types_supported"].as_array().unwrap().is_empty());
        for path in [TOKEN, "/shop/oauth2/token"] {
            granted(&fixture.post(path, &fixture.basic(), GRANT).await);
        }
    }

    async fn a_caller_with_the_role_verifier_may_introspect_and_no_other(database: TestDatabase) {
        let fixture = Fixture::start(&database).await;
        let user = fixture.user().await;
        let token = &user.access_token;
        let own = granted(&fixture.ask("").await);
        let bearer = |token: &str| format!("authorization: Bearer {token}\r\n");
        let body = format!("token={token}&token_type_hint=access_token");
        let secret = &fixture.orders.secret;
        let by_form = format!("{body}&client_id=orders&client_secret={secret}");
        for (headers, body) in [(bearer(&own), &body), (fixture.basic(), &body), (String::new(), &by_form)] {
            let said = fixture.post(INTROSPECT, &headers, body).await;
            assert_eq!((said.status, said.header("cache-control")), (200, "no-store"));
            let said = said.json();
            assert_eq!((&said["active"], &said["token_type"]), (&json!(true), &json!("Bearer")));
            assert_eq!(said["sid"], user.session_id);
            assert_eq!(said["iss"], "http://localhost:50051");
            assert!(said["exp"].is_i64() && said["iat"].is_i64() && said["sub"].is_string());
        }
        for other in ["no.token.here", "csr_x", &user.refresh_token, "x"] {
            let said = fixture.post(INTROSPECT, &bearer(&own), &format!("token={other}")).await;
            assert_eq!((said.status, said.json()), (200, json!({"active": false})));
        }
        refused(&fixture.post(INTROSPECT, &bearer(token), &body).await, 403, "insufficient_scope");
        let stranger = fixture.post(INTROSPECT, &bearer("x"), &body).await;
        refused(&stranger, 401, "invalid_token");
        assert!(stranger.header("www-authenticate").starts_with("Bearer"));
        refused(&fixture.post(INTROSPECT, "", &body).await, 401, "invalid_client");
        refused(&fixture.post(INTROSPECT, &basic("orders:csk_wrong"), &body).await, 401, "invalid_client");
        refused(&fixture.post(INTROSPECT, &bearer(&own), "").await, 400, "invalid_request");
        let request = LogoutRequest { refresh_token: user.refresh_token };
        fixture.server.auth().logout(request).await.unwrap();
        let said = fixture.post(INTROSPECT, &bearer(&own), &body).await;
        assert_eq!(said.json(), json!({"active": false}), "a revoked token");
    }

    async fn a_token_is_exchanged_by_the_credential_or_the_token_of_the_service(database: TestDatabase) {
        let fixture = Fixture::start(&database).await;
        let user = fixture.user().await;
        let actor = granted(&fixture.ask("").await);
        let actor_token = format!("&actor_token={actor}&actor_token_type=urn:ietf:params:oauth:token-type:access_token");
        let subject = format!("{EXCHANGE}&subject_token={}", user.access_token);
        let with_actor = format!("{subject}{actor_token}");
        let mut exchanged = String::new();
        for (headers, body) in [
            (fixture.basic(), &subject),
            (fixture.basic(), &with_actor),
            (String::new(), &with_actor),
        ] {
            let answer = fixture.post(TOKEN, &headers, &format!("{body}&audience=billing")).await;
            exchanged = granted(&answer);
            let kind = "urn:ietf:params:oauth:token-type:access_token";
            assert_eq!(answer.json()["issued_token_type"], kind);
        }
        let bearer = format!("authorization: Bearer {actor}\r\n");
        let said = fixture.post(INTROSPECT, &bearer, &format!("token={exchanged}")).await.json();
        assert_eq!((&said["aud"], &said["sid"]), (&json!(["billing"]), &json!(user.session_id)));
        assert_eq!(said["act"]["sub"], fixture.orders.account.service_account_id);

        let own = fixture.basic();
        refused(&fixture.post(TOKEN, "", &subject).await, 401, "invalid_client");
        refused(&fixture.post(TOKEN, &own, &format!("{subject}&audience=countersign")).await, 400, "invalid_target");
        refused(&fixture.post(TOKEN, &own, &format!("{EXCHANGE}&subject_token=x")).await, 400, "invalid_request");
        refused(&fixture.post(TOKEN, &own, EXCHANGE).await, 400, "invalid_request");
        let other = fixture.server.service(&fixture.admin, "billing", Rights { audiences: "billing", ..Rights::default() }).await;
        let stranger = basic(&format!("billing:{}", other.secret));
        refused(&fixture.post(TOKEN, &stranger, &with_actor).await, 400, "invalid_request");
        refused(&fixture.post(TOKEN, &stranger, &subject).await, 400, "invalid_target");

        let request = LogoutRequest { refresh_token: user.refresh_token };
        fixture.server.auth().logout(request).await.unwrap();
        let said = fixture.post(INTROSPECT, &bearer, &format!("token={exchanged}")).await;
        assert_eq!(said.json(), json!({"active": false}), "after the logout of the user");
        refused(&fixture.post(TOKEN, &own, &subject).await, 400, "invalid_request");
    }

    async fn assertions_of_client_libraries_are_accepted(database: TestDatabase) {
        let (files, key) = client_key("EdDSA", "");
        let fixture = Fixture::start_with(&database, &[issuers(&files)]).await;
        let now = START.seconds();
        for (name, header, claims, more) in [
            ("openid-client", json!({"alg": "Ed25519", "kid": "1"}), json!({"exp": now + 60, "nbf": now, "jti": "a"}), "&client_id=orders"),
            ("Authlib", json!({"alg": "EdDSA", "typ": "JWT"}), json!({"exp": now + 3600, "jti": "b"}), ""),
            ("a clock that is ahead", json!({"alg": "EdDSA"}), json!({"exp": now + 60, "iat": now + 5, "nbf": now + 5}), ""),
        ] {
            let mut all = json!({"iss": "orders", "sub": "orders", "aud": ISSUER, "iat": now});
            all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
            let body = with_assertion(&key.sign_text(&header.to_string(), &all.to_string()));
            let answer = fixture.post(TOKEN, "", &format!("{body}{more}")).await;
            assert_eq!(answer.status, 200, "{name}: {answer:?}");
            granted(&answer);
        }
        let mut claims = key.claims("orders", now);
        claims["aud"] = json!(ISSUER);
        let other = format!("{}&client_id=billing", with_assertion(&key.sign(&claims)));
        refused(&fixture.post(TOKEN, "", &other).await, 401, "invalid_client");
    }

    async fn only_the_sender_of_a_signed_assertion_gets_the_cause(database: TestDatabase) {
        let (files, key) = client_key("ES256", "single_use = true");
        let fixture = Fixture::start_with(&database, &[issuers(&files)]).await;
        let now = START.seconds();
        let claims = json!({"iss": "orders", "sub": "orders", "aud": ISSUER, "iat": now, "exp": now + 60, "jti": "once"});
        let ask = async |assertion: &str| fixture.post(TOKEN, "", &with_assertion(assertion)).await;
        let assertion = key.sign(&claims);
        granted(&ask(&assertion).await);
        let again = ask(&assertion).await;
        assert_eq!(refused(&again, 401, "invalid_client"), "jti was used before");
        assert_eq!(again.header("www-authenticate"), "");
        for (name, value, part) in [
            ("aud", json!("https://auth.example.com/oauth2/token"), "PrivateKeyJWT(issuer)"),
            ("exp", json!(now - 60), "expired"),
            ("nbf", json!(now + 60), "ahead"),
            ("jti", json!(""), "needs a jti"),
        ] {
            let mut wrong = claims.clone();
            wrong[name] = value;
            let told = refused(&ask(&key.sign(&wrong)).await, 401, "invalid_client");
            assert!(told.contains(part), "{name}: {told}");
        }
        // Another key, and a subject that is not bound: one answer.
        let stranger = TestIssuer::new("ES256", "1", Some("orders"));
        let mut unbound = claims.clone();
        unbound["sub"] = json!("billing");
        let answers = [ask(&stranger.sign(&claims)).await, ask(&key.sign(&unbound)).await];
        for answer in answers {
            let told = refused(&answer, 401, "invalid_client");
            assert_eq!(told, "the client credential is not accepted");
        }
    }
}

const ISSUER: &str = "https://auth.example.com";

/// A file in which the client's own key is its issuer.
fn client_key(algorithm: &'static str, more: &str) -> (IssuerFiles, TestIssuer) {
    let key = TestIssuer::new(algorithm, "1", Some("orders"));
    let files = IssuerFiles::new(&format!(
        r#"
        [[issuer]]
        name = "orders-key"
        issuer = "orders"
        audience = "{ISSUER}"
        jwks_file = "FOLDER/orders.jwks"
        algorithms = ["{algorithm}"]
        {more}
        [[binding]]
        issuer = "orders-key"
        subject = "orders"
        service_account = "orders""#
    ));
    files.write("orders.jwks", &key.jwks());
    (files, key)
}

fn issuers(files: &IssuerFiles) -> (&'static str, &str) {
    // The path lives as long as the folder.
    ("COUNTERSIGN_TRUSTED_ISSUERS_FILE", &files.toml)
}

fn with_assertion(assertion: &str) -> String {
    format!(
        "{GRANT}&client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer&client_assertion={assertion}"
    )
}

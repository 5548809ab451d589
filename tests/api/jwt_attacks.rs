//! Forged and malformed access tokens: each is `TOKEN_INVALID`, none causes a database query, and none
//! affects valid tokens.

mod corpus;
mod encodings;
mod flood;

use futures_util::{StreamExt as _, stream};
use serde_json::json;
use tokio::net::TcpListener;
use tonic::{Code, Request, Status};

use crate::support::{
    Kind, TestDatabase, TestServer, eventually, failure,
    forge::{Forge, Key},
    on_both_databases,
    proxy::Proxy,
};
use countersign::grpc::pb::ValidateTokenRequest;

/// A token that must be refused, and what is wrong with it.
struct Attack {
    name: String,
    token: String,
}

fn attack(name: impl Into<String>, token: impl Into<String>) -> Attack {
    Attack {
        name: name.into(),
        token: token.into(),
    }
}

const AT_ONCE: usize = 16;

/// Validates every token in the request's field, and as a bearer token where a header can contain it.
async fn assert_all_refused(server: &TestServer, attacks: &[Attack]) {
    let calls = attacks.iter().map(async |attack| {
        let mut results = vec![server.validate(&attack.token).await.map(drop)];
        if let Some(request) = as_bearer(&attack.token) {
            results.push(server.auth().validate_token(request).await.map(drop));
        }
        let wrong = results.into_iter().filter_map(|result| unexpected(&result));
        wrong
            .map(|what| format!("{}: {what}", attack.name))
            .collect::<Vec<_>>()
    });
    let failures: Vec<_> = stream::iter(calls).buffer_unordered(AT_ONCE).concat().await;
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
}

/// What is wrong with the result of validating a bad token, if anything.
fn unexpected(result: &Result<(), Status>) -> Option<String> {
    let Err(status) = result else {
        return Some("accepted".to_owned());
    };
    let failure = failure(status);
    let expected = (
        Code::Unauthenticated,
        "TOKEN_INVALID",
        "The access token is not valid.",
    );
    let actual = (
        failure.code,
        failure.reason.as_str(),
        failure.message.as_str(),
    );
    (actual != expected).then(|| format!("{actual:?}"))
}

/// The request with the token in its `authorization` metadata, if it is visible ASCII of a few kilobytes.
fn as_bearer(token: &str) -> Option<Request<ValidateTokenRequest>> {
    let fits = !token.is_empty() && token.len() < 8_000;
    if !fits || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let mut request = Request::new(ValidateTokenRequest::default());
    let bearer = format!("Bearer {token}").parse().ok()?;
    request.metadata_mut().insert("authorization", bearer);
    Some(request)
}

const TABLES: [&str; 6] = [
    "audit_events",
    "revocations",
    "sessions",
    "login_failures",
    "users",
    "signing_keys",
];

on_both_databases! {
    async fn every_forged_token_is_refused_without_the_database(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let forge = Forge::of(&server).await;
        for table in TABLES {
            database.execute(&format!("ALTER TABLE {table} RENAME TO {table}_away")).await;
        }
        let attacks = corpus::all(&forge);
        assert!(attacks.len() > 400, "{} attacks", attacks.len());
        assert_all_refused(&server, &attacks).await;
        server.validate(&forge.good).await.unwrap();
        for table in TABLES {
            database.execute(&format!("ALTER TABLE {table}_away RENAME TO {table}")).await;
        }
        // The pings of the database failed meanwhile: logins go on after the next one that succeeds.
        eventually("a login", async || server.login("ada@example.org").await.is_ok()).await;
    }
}

/// The server's own queries in the meantime (a ping each second, polling for changes) have far fewer bytes
/// than one query for each token would have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_token_causes_no_database_query() {
    const LEAST_QUERY: usize = 40;
    let database = TestDatabase::create(Kind::Postgres).await;
    let proxy = Proxy::before(&database.url).await;
    let server =
        TestServer::start_with(&database, &[("COUNTERSIGN_DATABASE_URL", &proxy.url)]).await;
    let forge = Forge::of(&server).await;
    let attacks = corpus::all(&forge);
    let before = proxy.carried();
    assert_all_refused(&server, &attacks).await;
    let carried = proxy.carried() - before;
    let tokens = attacks.len();
    println!("{tokens} tokens, {carried} bytes");
    assert!(
        carried < tokens * LEAST_QUERY / 2,
        "{carried} bytes for {tokens} tokens"
    );

    proxy.cut();
    assert_all_refused(&server, &attacks[..20]).await;
    server.validate(&forge.good).await.unwrap();
}

/// Algorithm confusion depends on the algorithm of the key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_forged_token_is_refused_for_every_signing_algorithm() {
    for algorithm in ["ES256", "RS256"] {
        let database = TestDatabase::create(Kind::Sqlite).await;
        let setting = [("COUNTERSIGN_SIGNING_ALGORITHM", algorithm)];
        let server = TestServer::start_with(&database, &setting).await;
        let forge = Forge::of(&server).await;
        assert_eq!(forge.algorithm(), algorithm);
        assert_all_refused(&server, &corpus::all(&forge)).await;
        server.validate(&forge.good).await.unwrap();
    }
}

/// Keys and URLs in a header are ignored, even when our own key signed the header (RFC 8725 section 3.10).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_urls_in_the_header_are_ignored() {
    let server = TestServer::start(&TestDatabase::create(Kind::Sqlite).await).await;
    let forge = Forge::of(&server).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let theirs = Key::of_an_attacker(forge.algorithm());
    for pointer in [
        json!({"jku": url}),
        json!({"x5u": url}),
        json!({"x5c": ["MIIB"], "x5t": "AA", "x5t#S256": "AA"}),
        json!({"jwk": theirs.jwk()}),
        json!({"jku": url, "jwk": theirs.jwk(), "x5u": url}),
    ] {
        let header = forge.header_with(&pointer);
        let forged = forge.sign_with(&theirs, forge.algorithm(), &header);
        assert_all_refused(&server, &[attack(pointer.to_string(), forged)]).await;
        // The same header under our own signature changes nothing: it is ignored.
        server
            .validate(&forge.sign(&header, &forge.claims))
            .await
            .unwrap();
    }
    let accepted = tokio::time::timeout(std::time::Duration::from_millis(50), listener.accept());
    assert!(accepted.await.is_err(), "the server fetched the URL");
}

/// A well-formed token of ours is valid or expired, however unusual its times are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn extreme_times_under_our_own_signature_decide_only_on_expiry() {
    let server = TestServer::start(&TestDatabase::create(Kind::Sqlite).await).await;
    let forge = Forge::of(&server).await;
    for past in [i64::MIN, -1, 0, 1] {
        let token = forge.sign(&forge.header, forge.claims_with(&json!({"exp": past})));
        let status = server.validate(&token).await.unwrap_err();
        assert_eq!(failure(&status).reason, "TOKEN_EXPIRED", "{past}");
    }
    for times in [
        json!({"exp": i64::MAX}),
        json!({"iat": i64::MIN}),
        json!({"iat": i64::MAX}),
    ] {
        let token = forge.sign(&forge.header, forge.claims_with(&times));
        server.validate(&token).await.unwrap();
    }
}

/// Unknown members are ignored (RFC 7519 section 4), at any depth and without recursion.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deep_nesting_in_unknown_members_is_ignored() {
    let server = TestServer::start(&TestDatabase::create(Kind::Sqlite).await).await;
    let forge = Forge::of(&server).await;
    let nested = format!("\"x\":{}1{},", "[".repeat(2_000), "]".repeat(2_000));
    let header = forge
        .header
        .to_string()
        .replacen('{', &format!("{{{nested}"), 1);
    let claims = forge
        .claims
        .to_string()
        .replacen('{', &format!("{{{nested}"), 1);
    let token = forge.sign(header, &forge.claims);
    server.validate(&token).await.unwrap();
    let token = forge.sign(&forge.header, claims);
    server.validate(&token).await.unwrap();
}

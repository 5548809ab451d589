//! Forged, twisted and garbled access tokens: each is `TOKEN_INVALID`, none reaches the database, none
//! disturbs the good ones.

mod corpus;
mod flood;
mod spellings;

use futures_util::{StreamExt as _, stream};
use serde_json::json;
use tokio::net::TcpListener;
use tonic::{Code, Request, Status};

use crate::support::{
    Kind, TestDatabase, TestServer, failure,
    forge::{Forge, Key},
    on_both_databases,
    proxy::Proxy,
};
use countersign::grpc::pb::ValidateTokenRequest;

/// A token that must not pass, and what is wrong with it.
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

/// Presents every token in the field, and as a bearer where a header can carry it.
async fn assert_all_refused(server: &TestServer, attacks: &[Attack]) {
    let calls = attacks.iter().map(async |attack| {
        let mut verdicts = vec![server.validate(&attack.token).await.map(drop)];
        if let Some(request) = as_bearer(&attack.token) {
            verdicts.push(server.auth().validate_token(request).await.map(drop));
        }
        let wrong = verdicts
            .into_iter()
            .filter_map(|verdict| complaint(&verdict));
        wrong
            .map(|what| format!("{}: {what}", attack.name))
            .collect::<Vec<_>>()
    });
    let complaints: Vec<_> = stream::iter(calls).buffer_unordered(AT_ONCE).concat().await;
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// What is wrong with a verdict on a bad token.
fn complaint(verdict: &Result<(), Status>) -> Option<String> {
    let Err(status) = verdict else {
        return Some("accepted".to_owned());
    };
    let failure = failure(status);
    let expected = (
        Code::Unauthenticated,
        "TOKEN_INVALID",
        "The access token is not valid.",
    );
    let told = (
        failure.code,
        failure.reason.as_str(),
        failure.message.as_str(),
    );
    (told != expected).then(|| format!("{told:?}"))
}

/// HTTP/2 headers are visible ASCII here, and may have some kilobytes.
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
    async fn every_attack_is_refused_without_the_database(database: TestDatabase) {
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
        server.login("ada@example.org").await.unwrap();
    }
}

/// What the server tells the database by itself in the meantime (a ping each second, a look for what
/// changed) is far less than one query for each token would be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attacks_send_nothing_to_the_database() {
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

/// What confuses a verifier depends on the algorithm of its key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_attack_is_refused_whatever_the_algorithm_of_our_key() {
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

/// A token is never asked where its key is to be found, not even by a header that our own key signed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_header_points_at_is_neither_fetched_nor_believed() {
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
    let nobody = tokio::time::timeout(std::time::Duration::from_millis(50), listener.accept());
    assert!(nobody.await.is_err(), "somebody followed the pointer");
}

/// What is well-formed and signed by us is judged by the clock, however odd its times are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_times_under_our_own_signature_are_judged_by_the_clock() {
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

/// Members that nobody knows are ignored (RFC 7519 section 4), at any depth and without recursion.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deep_nesting_where_nothing_is_read_is_ignored() {
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

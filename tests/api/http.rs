//! The HTTP port: JWKS, metadata and metrics, as verifiers and Prometheus use them.

#![allow(
    clippy::float_cmp,
    reason = "the values are counts, which Prometheus writes as floats"
)]

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use countersign::{auth::RequestContext, cores, grpc::pb::ValidateTokenRequest};
use jsonwebtoken::{DecodingKey, Validation, jwk::JwkSet};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::timeout};
use tonic::{Code, Request};

use crate::support::{
    Kind, TestDatabase, TestServer, eventually, on_both_databases,
    process::TestProcess,
    proxy::Proxy,
    reason,
    web::{Answer, get, get_with, send},
};

const JWKS: &str = "/.well-known/jwks.json";
const METADATA: &str = "/.well-known/oauth-authorization-server";

/// All series and their values. Fails when a line is not valid OpenMetrics text.
async fn scrape(address: SocketAddr) -> BTreeMap<String, f64> {
    let answer = get(address, "/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .header("content-type")
            .starts_with("application/openmetrics-text; version=1.0.0")
    );
    assert_eq!(answer.header("cache-control"), "no-store");
    let text = answer
        .body
        .strip_suffix("# EOF\n")
        .expect("the text ends with its end mark");
    let mut series = BTreeMap::new();
    let mut family = String::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.split(' ');
            assert!(
                matches!(words.next(), Some("HELP" | "TYPE" | "UNIT")),
                "{line}"
            );
            words.next().unwrap().clone_into(&mut family);
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(
            name.starts_with(&family),
            "{line} is in the family {family}"
        );
        let known = series.insert(name.to_owned(), value.parse().unwrap());
        assert_eq!(known, None, "{line} occurs twice");
    }
    series
}

/// How many calls of a method ended with a code.
fn handled(series: &BTreeMap<String, f64>, method: &str, code: &str) -> f64 {
    let mut found = series.iter().filter(|(name, _)| {
        name.starts_with("grpc_server_handled_total{")
            && name.contains(&format!("grpc_method=\"{method}\""))
            && name.contains(&format!("grpc_code=\"{code}\""))
    });
    let value = found
        .next()
        .unwrap_or_else(|| panic!("there is no series for {method} with {code}"));
    assert!(found.next().is_none());
    *value.1
}

/// The value of the only series whose name begins with `start`.
fn value(series: &BTreeMap<String, f64>, start: &str) -> f64 {
    let mut found = series.iter().filter(|(name, _)| name.starts_with(start));
    let value = found
        .next()
        .unwrap_or_else(|| panic!("there is no series {start}"));
    assert!(
        found.next().is_none(),
        "{start} matches more than one series"
    );
    *value.1
}

on_both_databases! {
    async fn the_jwks_verifies_an_access_token_with_another_library(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let token = server.signed_in("ada@example.org").await.access_token;
        let answer = get(server.http(), JWKS).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), "application/json");
        let keys: JwkSet = serde_json::from_str(&answer.body).unwrap();
        let header = jsonwebtoken::decode_header(&token).unwrap();
        let jwk = keys.find(header.kid.as_deref().unwrap()).unwrap();
        let mut validation = Validation::new(header.alg);
        validation.set_audience(&["countersign"]);
        validation.set_issuer(&["http://localhost:50051"]);
        // The clock of the test does not move, that of the library does.
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<serde_json::Value>(
            &token,
            &DecodingKey::from_jwk(jwk).unwrap(),
            &validation,
        );
        assert!(claims.unwrap().claims["sub"].is_string());
        for member in answer.json()["keys"].as_array().unwrap() {
            assert_eq!(member["use"], "sig");
            assert!(member["alg"].is_string() && member.get("d").is_none(), "{member}");
        }
    }

    async fn documents_have_max_age_and_etag_and_answer_conditional_requests(database: TestDatabase) {
        let settings = [("COUNTERSIGN_JWKS_MAX_AGE", "90s")];
        let server = TestServer::start_with(&database, &settings).await;
        for path in [JWKS, METADATA] {
            let full = get(server.http(), path).await;
            assert_eq!(full.header("cache-control"), "public, max-age=90");
            let etag = full.header("etag");
            assert!(etag.starts_with('"'), "{etag} is a strong validator");

            let same = get_with(server.http(), path, &format!("if-none-match: {etag}\r\n")).await;
            assert_eq!((same.status, same.body.as_str()), (304, ""));
            assert_eq!(same.header("etag"), etag);
            assert_eq!(same.header("cache-control"), "public, max-age=90");
            let other = get_with(server.http(), path, "if-none-match: \"other\"\r\n").await;
            assert_eq!((other.status, &other.body), (200, &full.body));

            let request = format!("HEAD {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            let head = send(server.http(), &request).await;
            assert_eq!((head.status, head.body.as_str()), (200, ""));
            assert_eq!(head.header("etag"), etag);
            assert_eq!(head.header("content-length"), full.body.len().to_string());
        }
    }

    async fn after_a_key_rotation_the_old_etag_gets_the_new_jwks(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let before = get(server.http(), JWKS).await;
        let context = RequestContext::default();
        let new = server.core.rotate_signing_key(false, &context).await.unwrap();
        let condition = format!("if-none-match: {}\r\n", before.header("etag"));
        let after = get_with(server.http(), JWKS, &condition).await;
        assert_eq!(after.status, 200, "the old document is outdated");
        let kids = |answer: &Answer| -> Vec<_> {
            let json = answer.json();
            let keys = json["keys"].as_array().unwrap().iter();
            keys.map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(kids(&after), [kids(&before), vec![new.kid]].concat());
    }

    async fn replicas_publish_the_same_jwks_with_the_same_etag(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let replica = server.replica(&[]).await;
        let (ours, theirs) = (get(server.http(), JWKS).await, get(replica.http(), JWKS).await);
        assert_eq!(ours.body, theirs.body);
        assert_eq!(ours.header("etag"), theirs.header("etag"));
    }

    async fn the_metadata_of_an_issuer_with_a_path_leads_to_its_jwks(database: TestDatabase) {
        let issuer = "https://auth.example.com/shop";
        let server = TestServer::start_with(&database, &[("COUNTERSIGN_ISSUER", issuer)]).await;
        for path in [METADATA.to_owned(), format!("{METADATA}/shop")] {
            let metadata = get(server.http(), &path).await;
            assert_eq!(metadata.header("content-type"), "application/json");
            let metadata = metadata.json();
            assert_eq!(metadata["issuer"], issuer);
            assert_eq!(metadata["response_types_supported"], serde_json::json!([]));
            let jwks_uri = metadata["jwks_uri"].as_str().unwrap();
            let path = jwks_uri.strip_prefix("https://auth.example.com").unwrap();
            assert_eq!(get(server.http(), path).await.status, 200, "{path}");
        }
        assert_eq!(get(server.http(), &format!("{METADATA}/other")).await.status, 404);
    }

    async fn calls_are_counted_by_method_and_code_without_input_from_callers(database: TestDatabase) {
        // A process of its own, because the counters belong to the process.
        let limits = [
            ("COUNTERSIGN_CREDENTIAL_RATE_PER_SECOND", "1"),
            ("COUNTERSIGN_CREDENTIAL_RATE_BURST", "1"),
        ];
        let server = TestProcess::start_with(&database, &limits).await;
        let before = scrape(server.http()).await;
        assert_eq!(value(&before, "countersign_build_info{version=\""), 1.0);
        assert_eq!(value(&before, "countersign_database_available"), 1.0);
        assert_eq!(handled(&before, "Login", "OK"), 0.0);
        assert_eq!(handled(&before, "Login", "Internal"), 0.0);

        let mut auth = server.auth();
        let mut refused = 0.0;
        for _ in 0..3 {
            let request = Request::new(countersign::grpc::pb::LoginRequest {
                email: "nobody@example.org".to_owned(),
                password: "not the right one".to_owned(),
                ..Default::default()
            });
            if auth.login(request).await.unwrap_err().code() == Code::ResourceExhausted {
                refused += 1.0;
            }
        }
        for _ in 0..5 {
            let forged = ValidateTokenRequest { access_token: "x".to_owned(), ..Default::default() };
            auth.validate_token(forged).await.unwrap_err();
        }
        let mut raw = tonic::client::Grpc::new(server.channel.clone());
        raw.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static("/ada@example.org/secret");
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        raw.unary(Request::new(()), path, codec).await.unwrap_err();

        let after = scrape(server.http()).await;
        assert!(refused >= 1.0);
        assert_eq!(handled(&after, "Login", "ResourceExhausted"), refused);
        assert_eq!(handled(&after, "Login", "Unauthenticated"), 3.0 - refused);
        assert_eq!(handled(&after, "ValidateToken", "Unauthenticated"), 5.0);
        assert_eq!(handled(&after, "unknown", "Unimplemented"), 1.0);
        assert!(!after.keys().any(|name| name.contains("ada")));
        assert_eq!(after.len(), before.len(), "a call created a new series");
        for (method, calls) in [("ValidateToken", 5.0), ("Login", 3.0), ("unknown", 1.0)] {
            let of = |metric: &str| {
                let mut found = after.iter().filter(|(name, _)| {
                    name.starts_with(metric) && name.contains(&format!("grpc_method=\"{method}\""))
                });
                *found.next().unwrap().1
            };
            assert_eq!(of("grpc_server_started_total"), calls);
            assert_eq!(of("grpc_server_in_flight"), 0.0);
            assert_eq!(of("grpc_server_handling_seconds_count"), calls);
            assert_eq!(of("grpc_server_handling_seconds_bucket{le=\"+Inf\""), calls);
            assert!(of("grpc_server_handling_seconds_sum") > 0.0);
        }
        assert_eq!(value(&after, "countersign_hashing_finished_total"), 3.0 - refused);
    }

    async fn gauges_show_revocations_keys_pools_and_hashing(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let tokens = server.signed_in("ada@example.org").await;
        server.logout(&tokens.refresh_token).await.unwrap();
        server.clock.advance(Duration::from_secs(7));
        let series = scrape(server.http()).await;
        assert_eq!(value(&series, "countersign_live_revocations"), 1.0);
        assert_eq!(value(&series, "countersign_signing_key_age_seconds"), 7.0);
        assert!((0.0..=7.0).contains(&value(&series, "countersign_revocation_staleness_seconds")));
        let most = match database.kind {
            Kind::Sqlite => value(&series, "countersign_database_connections_max{pool=\"writer\"}") * 8.0,
            Kind::Postgres => value(&series, "countersign_database_connections_max{pool=\"all\"}"),
        };
        assert_eq!(most, 8.0);
        assert_eq!(value(&series, "countersign_hashing_waiting"), 0.0);
        assert!(value(&series, "countersign_hashing_average_seconds") > 0.0);
        assert_eq!(value(&series, "countersign_log_lines_dropped_total"), 0.0);
    }

    async fn hashing_leaves_one_core_free_while_tokens_are_validated(database: TestDatabase) {
        let cores = cores::count().get();
        let workers = (cores + 1).to_string();
        let variables = [("COUNTERSIGN_HASHING_WORKERS", workers.as_str())];
        let server = TestServer::start_with(&database, &variables).await;
        let tokens = server.signed_in("ada@example.org").await;
        let at_once = async || {
            let series = scrape(server.http()).await;
            value(&series, "countersign_hashing_at_once").to_string()
        };
        let all = async || at_once().await == workers;
        assert!(all().await, "no token has been validated yet");

        let others = cores.saturating_sub(1).max(1).to_string();
        eventually("one core is left free", async || {
            server.validate(&tokens.access_token).await.unwrap();
            at_once().await == others
        })
        .await;
        eventually("all workers are used again", all).await;
        server.validate("no token").await.unwrap_err();
        assert!(all().await, "an invalid token reserved a core");
    }

    async fn unknown_paths_and_methods_are_refused_without_echoing_the_request(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let long = "echo".repeat(20_000);
        let requests = [
            ("GET /echo HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(), 404),
            ("GET /.well-known/jwks.json/echo HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(), 404),
            ("GET /../../echo HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(), 404),
            (format!("POST {JWKS} HTTP/1.1\r\nhost: x\r\ncontent-length: 9999999\r\n\r\necho"), 405),
            (format!("POST {JWKS} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n4\r\necho\r\n"), 405),
            (format!("DELETE {METADATA} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"), 405),
            ("OPTIONS /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(), 405),
            ("echo\r\n\r\n".to_owned(), 400),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 0),
            (format!("GET /{long} HTTP/1.1\r\n\r\n"), 431),
        ];
        for (request, status) in requests {
            let answer = send(server.http(), &request).await;
            let start: String = request.chars().take(60).collect();
            // A client that is cut off while it sends may receive nothing.
            let cut_off = status == 431 && answer.status == 0;
            assert!(answer.status == status || cut_off, "{start:?} was answered {answer:?}");
            assert_eq!(answer.body, "", "{start:?}");
            assert!(!format!("{answer:?}").contains("echo"), "{answer:?}");
        }
        assert_eq!(get(server.http(), JWKS).await.status, 200, "the port is still served");
    }

    async fn health_is_plain_text_that_nobody_may_cache(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        for path in ["/healthz", "/readyz"] {
            let answer = get(server.http(), path).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"), "{path}");
            assert_eq!(answer.header("cache-control"), "no-store");
        }
    }

    async fn an_empty_address_turns_the_http_port_off(database: TestDatabase) {
        let off = [("COUNTERSIGN_HTTP_ADDR", "")];
        let server = TestServer::start_with(&database, &off).await;
        assert_eq!(server.http, None);
        server.signed_in("ada@example.org").await;
        server.stop().await;
        let process = TestProcess::start_with(&database, &off).await;
        assert_eq!(process.http, None);
    }

    async fn unfinished_http_requests_do_not_delay_the_end(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let address = server.http();
        let _silent = TcpStream::connect(address).await.unwrap();
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET /metrics HTTP/1.1\r\nx-slow:").await.unwrap();
        assert_eq!(get(address, JWKS).await.status, 200);
        timeout(Duration::from_secs(10), server.stop()).await.expect("the server ends");
        assert!(TcpStream::connect(address).await.is_err(), "the port is closed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn during_a_database_outage_the_metrics_show_it_and_the_jwks_is_served() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let proxy = Proxy::before(&database.url).await;
    let settings = [("COUNTERSIGN_DATABASE_URL", proxy.url.as_str())];
    let server = TestServer::start_with(&database, &settings).await;
    let before = get(server.http(), JWKS).await;
    proxy.cut();
    while reason(server.login("ada@example.org").await) != "DATABASE_UNAVAILABLE" {}
    let shown = async {
        while value(
            &scrape(server.http()).await,
            "countersign_database_available",
        ) > 0.0
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(20), shown)
        .await
        .expect("the metrics show the outage");
    assert_eq!(get(server.http(), JWKS).await.body, before.body);
}

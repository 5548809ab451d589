//! Signing keys and master keys: rotation, emergency rotation and change of master keys, as callers and operators see them.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign::{
    auth::{AuthError, RequestContext},
    clock::Timestamp,
    tokens::SigningKeyInfo,
};
use futures_util::future::join_all;
use serde_json::Value;

use crate::support::{
    PASSWORD, TestDatabase, TestServer, eventually, on_both_databases,
    process::{TestProcess, run},
    reason,
    server::{MASTER_KEYS, START},
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Settings under which a key is published 75.2 s before it signs.
pub const SETTINGS: [(&str, &str); 4] = [
    ("COUNTERSIGN_REVOCATION_POLL_INTERVAL", "100ms"),
    ("COUNTERSIGN_SIGNING_KEY_ROTATION", "1h"),
    ("COUNTERSIGN_SIGNING_KEY_LEAD", "1m"),
    ("COUNTERSIGN_JWKS_MAX_AGE", "1m"),
];
const AHEAD: Duration = Duration::from_millis(75_200);

/// Until when a key verifies after its successor has begun to sign: 30 minutes, the longest life of a
/// token in production, and a minute for clocks that differ.
const TOKEN_LIFE: Duration = Duration::from_secs(31 * 60);

fn header(token: &str) -> Value {
    let header = token.split('.').next().unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap()
}

/// The key that signed a token.
pub fn kid(token: &str) -> String {
    header(token)["kid"].as_str().unwrap().to_owned()
}

/// The keys that a server publishes, the one that signs first.
pub fn published(server: &TestServer) -> Vec<String> {
    let jwks: Value = serde_json::from_str(&server.core.jwks().json).unwrap();
    let keys = jwks["keys"].as_array().unwrap();
    let kid = |key: &Value| key["kid"].as_str().unwrap().to_owned();
    keys.iter().map(kid).collect()
}

pub async fn rotate(server: &TestServer, emergency: bool) -> SigningKeyInfo {
    let context = RequestContext::default();
    let rotated = server.core.rotate_signing_key(emergency, &context).await;
    rotated.unwrap()
}

async fn restart(
    server: TestServer,
    database: &TestDatabase,
    variables: &[(&str, &str)],
) -> TestServer {
    let clock = server.clock.clone();
    server.stop().await;
    TestServer::try_start(database, variables, clock)
        .await
        .unwrap()
}

on_both_databases! {
    async fn a_key_is_published_signs_retires_and_is_deleted(database: TestDatabase) {
        let server = TestServer::start_with(&database, &SETTINGS).await;
        let first = server.signed_in("ada@example.org").await;
        assert_eq!(published(&server), [kid(&first.access_token)]);

        let due = START + HOUR - AHEAD;
        server.clock.set(due);
        eventually("a successor is published", async || published(&server).len() == 2).await;
        let still = server.login("ada@example.org").await.unwrap();
        assert_eq!(kid(&still.access_token), kid(&first.access_token));
        assert_eq!(published(&server)[0], kid(&first.access_token));

        server.clock.set(START + HOUR);
        let next = server.login("ada@example.org").await.unwrap();
        assert_ne!(kid(&next.access_token), kid(&first.access_token));
        assert_eq!(published(&server), [kid(&next.access_token), kid(&first.access_token)]);
        let refreshed = server.refresh(&still.refresh_token).await.unwrap();
        assert_eq!(kid(&refreshed.access_token), kid(&next.access_token));

        // Its last token is good until it expires, also on a replica that has not seen it before.
        let other = server.replica(&SETTINGS).await;
        let expires_at = Timestamp::from_seconds(still.access_expire_time.unwrap().seconds);
        server.clock.set(expires_at - Duration::from_secs(1));
        server.validate(&still.access_token).await.unwrap();
        other.validate(&still.access_token).await.unwrap();
        server.clock.advance(Duration::from_secs(1));
        assert_eq!(reason(server.validate(&still.access_token).await), "TOKEN_EXPIRED");

        server.clock.set(START + HOUR + TOKEN_LIFE);
        assert_eq!(published(&server), [kid(&next.access_token)]);
        let third = server.replica(&SETTINGS).await;
        assert_eq!(reason(third.validate(&still.access_token).await), "TOKEN_INVALID");
        server.clock.set(START + HOUR + TOKEN_LIFE + DAY);
        let row = format!("signing_keys WHERE kid = '{}'", kid(&first.access_token));
        eventually("its row is deleted", async || database.count(&row).await == 0).await;
    }

    async fn replicas_that_rotate_at_the_same_time_publish_one_successor(database: TestDatabase) {
        let server = TestServer::start_with(&database, &SETTINGS).await;
        let mut servers = vec![server.replica(&SETTINGS).await, server.replica(&SETTINGS).await, server];
        let asked = join_all(servers.iter().map(|server| rotate(server, false))).await;
        assert!(asked.iter().all(|key| key.kid == asked[0].kid));
        assert_eq!(database.count("signing_keys").await, 2);
        let all_know = |servers: &[TestServer], keys: usize| servers.iter().all(|server| published(server).len() == keys);
        eventually("all know it", async || all_know(&servers, 2)).await;
        // By itself, too: an hour after that one began to sign.
        servers[0].clock.set(asked[0].activates_at + HOUR - MINUTE);
        eventually("all know the next", async || all_know(&servers, 2) && published(&servers[0])[0] == asked[0].kid).await;
        assert_eq!(database.count("signing_keys").await, 3);
        servers[0].clock.set(asked[0].activates_at + HOUR);
        let signer = published(&servers[0])[0].clone();
        for server in &mut servers {
            assert_eq!(published(server)[0], signer);
        }
    }

    async fn simultaneous_emergency_rotations_leave_one_key(database: TestDatabase) {
        let server = TestServer::start_with(&database, &SETTINGS).await;
        let servers = [server.replica(&SETTINGS).await, server.replica(&SETTINGS).await, server];
        let tokens = servers[0].signed_in("ada@example.org").await;
        let asked = join_all(servers.iter().map(|server| rotate(server, true))).await;
        assert_eq!(database.count("signing_keys").await, 4);
        assert_eq!(database.count("signing_keys WHERE revoked_at IS NULL").await, 1);
        let agree = || servers.iter().all(|server| published(server).len() == 1 && published(server) == published(&servers[0]));
        eventually("all have the last one", async || agree()).await;
        assert!(asked.iter().any(|key| key.kid == published(&servers[0])[0]));
        for server in &servers {
            assert_eq!(reason(server.validate(&tokens.access_token).await), "TOKEN_INVALID");
            let next = server.login("ada@example.org").await.unwrap();
            servers[0].validate(&next.access_token).await.unwrap();
        }
    }

    async fn another_algorithm_takes_effect_through_an_ordinary_rotation(database: TestDatabase) {
        let mut server = TestServer::start_with(&database, &SETTINGS).await;
        let mut last = server.signed_in("ada@example.org").await;
        for (algorithm, bits, alg) in [("EdDSA", "2048", "EdDSA"), ("RS256", "2048", "RS256"), ("RS256", "3072", "RS256"), ("ES256", "3072", "ES256")] {
            let changed = [SETTINGS.as_slice(), &[
                ("COUNTERSIGN_SIGNING_ALGORITHM", algorithm),
                ("COUNTERSIGN_RSA_KEY_BITS", bits),
            ]].concat();
            server = restart(server, &database, &changed).await;
            let keys = published(&server);
            let before = server.login("ada@example.org").await.unwrap();
            assert_eq!(header(&before.access_token), header(&last.access_token));
            // A second start begins no second rotation.
            server = restart(server, &database, &changed).await;
            assert_eq!(published(&server), keys);
            server.clock.advance(AHEAD);
            let after = server.login("ada@example.org").await.unwrap();
            assert_eq!(header(&after.access_token)["alg"], alg);
            assert_eq!(kid(&after.access_token), keys[1]);
            for tokens in [&last, &before, &after] {
                server.validate(&tokens.access_token).await.unwrap();
            }
            last = after;
        }
    }

    async fn an_installation_that_named_no_algorithm_changes_to_es256(database: TestDatabase) {
        let eddsa = [SETTINGS.as_slice(), &[("COUNTERSIGN_SIGNING_ALGORITHM", "EdDSA")]].concat();
        let server = TestServer::start_with(&database, &eddsa).await;
        let old = server.signed_in("ada@example.org").await;
        let server = restart(server, &database, &SETTINGS).await;
        assert_eq!(published(&server).len(), 2);
        server.clock.advance(AHEAD.saturating_sub(Duration::from_secs(1)));
        let before = server.login("ada@example.org").await.unwrap();
        assert_eq!(header(&before.access_token)["alg"], "EdDSA");
        server.clock.advance(Duration::from_secs(1));
        let after = server.login("ada@example.org").await.unwrap();
        assert_eq!(header(&after.access_token)["alg"], "ES256");
        for tokens in [&old, &before, &after] {
            server.validate(&tokens.access_token).await.unwrap();
        }
    }

    async fn the_jwks_never_has_more_than_five_keys(database: TestDatabase) {
        let server = TestServer::start_with(&database, &SETTINGS).await;
        let rotate = async || {
            let context = RequestContext::default();
            server.core.rotate_signing_key(false, &context).await
        };
        let mut refused = 0;
        for _ in 0..12 {
            match rotate().await {
                Ok(key) => server.clock.set(key.activates_at.max(server.clock.now())),
                Err(AuthError::RateLimited { retry_after }) => {
                    refused += 1;
                    assert_eq!(published(&server).len(), 5);
                    server.clock.advance(retry_after);
                    rotate().await.unwrap();
                }
                Err(error) => panic!("{error}"),
            }
            assert!(published(&server).len() <= 5);
        }
        assert!(refused > 0, "there was room for all of them");
    }

    /// RSA keys take long to make; reading revocations does not wait for them.
    async fn rsa_keys_rotate_automatically(database: TestDatabase) {
        let rsa = [SETTINGS.as_slice(), &[
            ("COUNTERSIGN_SIGNING_ALGORITHM", "RS256"),
            ("COUNTERSIGN_RSA_KEY_BITS", "3072"),
        ]].concat();
        let server = TestServer::start_with(&database, &rsa).await;
        let first = server.signed_in("ada@example.org").await;
        server.clock.set(START + HOUR - AHEAD);
        eventually("a successor is published", async || published(&server).len() == 2).await;
        server.clock.set(START + HOUR);
        let next = server.refresh(&first.refresh_token).await.unwrap();
        assert_eq!(header(&next.access_token)["alg"], "RS256");
        assert_ne!(kid(&next.access_token), kid(&first.access_token));
        server.validate(&next.access_token).await.unwrap();
    }

    async fn an_emergency_rotation_revokes_every_token_on_every_replica(database: TestDatabase) {
        // With this interval only a notification can tell the other replica in time on PostgreSQL. On SQLite the file is
        // read every second, whatever is set here.
        let settings = [
            ("COUNTERSIGN_REVOCATION_POLL_INTERVAL", "10m"),
            ("COUNTERSIGN_REVOCATION_MAX_STALENESS", "1h"),
        ];
        let server = TestServer::start_with(&database, &settings).await;
        let other = server.replica(&settings).await;
        let tokens = server.signed_in("ada@example.org").await;
        rotate(&server, false).await;
        for _ in 0..2 {
            server.validate(&tokens.access_token).await.unwrap();
            other.validate(&tokens.access_token).await.unwrap();
        }
        let fresh = rotate(&server, true).await;
        assert_eq!(reason(server.validate(&tokens.access_token).await), "TOKEN_INVALID");
        assert_eq!(published(&server), [fresh.kid.as_str()]);
        let took = eventually("the other replica learns of it", async || other.validate(&tokens.access_token).await.is_err()).await;
        println!("{:?}: an emergency reached the other replica after {took:?}", database.kind);
        assert_eq!(reason(other.validate(&tokens.access_token).await), "TOKEN_INVALID");
        assert_eq!(published(&other), [fresh.kid.as_str()]);

        // The session goes on: its refresh token depends on the master key alone.
        let next = other.refresh(&tokens.refresh_token).await.unwrap();
        assert_eq!(kid(&next.access_token), fresh.kid);
        server.validate(&next.access_token).await.unwrap();

        // A clock that is set back makes no old key valid again, and there is still a signing key.
        server.clock.set(START - DAY);
        assert_eq!(reason(server.validate(&tokens.access_token).await), "TOKEN_INVALID");
        let early = server.login("ada@example.org").await.unwrap();
        assert_eq!(kid(&early.access_token), fresh.kid);
        other.validate(&early.access_token).await.unwrap();

        let private_keys = "signing_keys WHERE revoked_at IS NOT NULL AND length(sealed_private_key) > 0";
        assert_eq!(database.count(private_keys).await, 0);
        assert_eq!(database.count("audit_events WHERE kind = 'signing_keys_revoked'").await, 1);
        assert_eq!(database.count("audit_events WHERE kind = 'signing_key_rotated'").await, 1);
    }

    async fn after_a_change_of_master_keys_everything_still_verifies(database: TestDatabase) {
        const SECOND: &str = "v2://///////////////////////////////////////38=";
        let server = TestServer::start(&database).await;
        let old = server.signed_in("ada@example.org").await;
        server.register("bob@example.org").await.unwrap();
        let both = format!("{SECOND},{MASTER_KEYS}");
        let both = [("COUNTERSIGN_MASTER_KEYS", both.as_str())];
        let server = restart(server, &database, &both).await;
        assert_eq!(database.count("signing_keys WHERE sealed_by = 2").await, 1);
        server.validate(&old.access_token).await.unwrap();
        let new = server.refresh(&old.refresh_token).await.unwrap();
        assert_eq!(database.count("users WHERE password_hash LIKE '%keyid=Ag$%'").await, 0);
        server.login("ada@example.org").await.unwrap();
        assert_eq!(database.count("users WHERE password_hash LIKE '%keyid=Ag$%'").await, 1);

        let report = run(&database, &both, &["keys", "rewrap"]).await;
        assert_eq!(report.status.code(), Some(0), "{report:?}");
        let report = String::from_utf8(report.stdout).unwrap();
        let line = |version: &str| {
            let line = report.lines().find(|line| line.starts_with(version));
            line.unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(line("v2"), ["v2", "1", "1", "0", "0"], "{report}");
        assert_eq!(line("v1"), ["v1", "0", "1", "0", "0"], "{report}");
        assert!(report.contains("expires 7d after"), "{report}");

        // Bob has not logged in, but Ada needs the old key no longer.
        // A mistyped key is reported even if it seals nothing any longer.
        let mistyped = format!("{SECOND},v1://///////////////////////////////////////38=");
        let clock = server.clock.clone();
        // SQLite allows no second server.
        server.stop().await;
        let output = run(&database, &[("COUNTERSIGN_MASTER_KEYS", &mistyped)], &[]).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("master key v1 is not the one"), "{said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");

        let second = [("COUNTERSIGN_MASTER_KEYS", SECOND)];
        let server = TestServer::try_start(&database, &second, clock).await.unwrap();
        server.login("ada@example.org").await.unwrap();
        server.refresh(&new.refresh_token).await.unwrap();
        assert_eq!(reason(server.refresh(&old.refresh_token).await), "REFRESH_TOKEN_INVALID");
        assert_eq!(reason(server.login("bob@example.org").await), "DATABASE_UNAVAILABLE");
    }

    async fn keys_rewrap_reseals_once(database: TestDatabase) {
        TestServer::start(&database).await.stop().await;
        let both = format!("v7://///////////////////////////////////////38=,{MASTER_KEYS}");
        let both = [("COUNTERSIGN_MASTER_KEYS", both.as_str())];
        for resealed in ["1 signing keys encrypted again", "0 signing keys encrypted again"] {
            let report = run(&database, &both, &["keys", "rewrap"]).await;
            let report = String::from_utf8(report.stdout).unwrap();
            assert!(report.contains(resealed), "{report}");
        }
        assert_eq!(database.count("signing_keys WHERE sealed_by = 7").await, 1);
        TestServer::start_with(&database, &both).await.stop().await;
    }

    async fn keys_are_listed_and_rotated_by_command(database: TestDatabase) {
        let server = TestProcess::start_with(&database, &SETTINGS).await;
        let keys = async |arguments: &[&str]| {
            let output = run(&database, &SETTINGS, &[&["keys"], arguments].concat()).await;
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let states = async || {
            let list = keys(&["list"]).await;
            let state = |line: &str| line.split_whitespace().nth(2).unwrap().to_owned();
            list.lines().skip(1).map(state).collect::<Vec<_>>()
        };
        assert_eq!(states().await, ["active"]);
        let said = keys(&["rotate"]).await;
        assert!(said.contains("is published and signs from"), "{said}");
        assert_eq!(keys(&["rotate"]).await, said, "one successor is enough");
        assert_eq!(states().await, ["active", "published"]);

        let request = countersign::grpc::pb::RegisterRequest {
            email: "ada@example.org".to_owned(),
            password: PASSWORD.to_owned(),
            display_name: String::new(),
        };
        server.auth().register(request).await.unwrap();
        let request = countersign::grpc::pb::LoginRequest {
            email: "ada@example.org".to_owned(),
            password: PASSWORD.to_owned(),
            device_label: String::new(),
            ..countersign::grpc::pb::LoginRequest::default()
        };
        let login = server.auth().login(request).await.unwrap().into_inner();
        let access_token = login.tokens.unwrap().access_token;
        let validate = async || {
            let request = countersign::grpc::pb::ValidateTokenRequest {
                access_token: access_token.clone(),
                ..Default::default()
            };
            server.auth().validate_token(request).await
        };
        validate().await.unwrap();
        let said = keys(&["rotate", "--emergency"]).await;
        assert!(said.contains("every earlier signing key is revoked"), "{said}");
        assert_eq!(states().await, ["revoked", "revoked", "active"]);
        eventually("the server knows", async || validate().await.is_err()).await;
        assert_eq!(reason(validate().await), "TOKEN_INVALID");
    }

    async fn a_wrong_master_key_rotates_nothing(database: TestDatabase) {
        TestServer::start(&database).await.stop().await;
        let wrong = [("COUNTERSIGN_MASTER_KEYS", "v1://///////////////////////////////////////38=")];
        for arguments in [["keys", "rotate"].as_slice(), &["keys", "rotate", "--emergency"]] {
            let output = run(&database, &wrong, arguments).await;
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert_eq!(said.trim_end().lines().count(), 1, "{said}");
            assert!(said.contains("not the one that was used as v1 before"), "{said}");
        }
        assert_eq!(database.count("signing_keys WHERE revoked_at IS NULL").await, 1);
    }
}

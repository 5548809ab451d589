//! What limits refuse, how long calls wait for a worker or a connection, and tokens that are not remembered are counted.

use crate::support::{
    TestDatabase, eventually, on_both_databases, process::TestProcess, reason, tls::value, web::get,
};

async fn metrics(server: &TestProcess) -> String {
    get(server.http(), "/metrics").await.body
}

fn refused(metrics: &str, reason: &str) -> i64 {
    let name = "countersign_calls_refused_total";
    value(metrics, &format!("{name}{{reason=\"{reason}\"}}"))
}

on_both_databases! {
    async fn each_call_that_a_limit_refuses_is_counted_once_under_its_reason(database: TestDatabase) {
        let server = TestProcess::start_with(&database, &[
            ("COUNTERSIGN_ACCOUNT_FAILURE_LIMIT", "3"),
            ("COUNTERSIGN_TOKEN_RATE_PER_SECOND", "1"),
            ("COUNTERSIGN_TOKEN_RATE_BURST", "1"),
        ]).await;
        let text = metrics(&server).await;
        for reason in ["RATE_LIMITED", "ACCOUNT_THROTTLED", "OVERLOADED"] {
            assert_eq!(refused(&text, reason), 0, "{reason}");
        }
        server.signed_in("ada@example.org").await;
        let wrong = async || {
            let request = countersign::grpc::pb::LoginRequest {
                email: "ada@example.org".to_owned(),
                password: "not the password of Ada".to_owned(),
                ..Default::default()
            };
            reason(server.auth().login(request).await)
        };
        eventually("the account is throttled", async || wrong().await == "ACCOUNT_THROTTLED").await;
        eventually("the address is limited", async || {
            reason(server.logout("garbage").await) == "RATE_LIMITED"
        }).await;

        let text = metrics(&server).await;
        assert_eq!(refused(&text, "ACCOUNT_THROTTLED"), 1);
        assert_eq!(refused(&text, "RATE_LIMITED"), 1);
        assert_eq!(refused(&text, "OVERLOADED"), 0);
    }

    async fn waits_for_workers_and_connections_and_tokens_seen_first_are_counted(database: TestDatabase) {
        let server = TestProcess::start(&database).await;
        let before = metrics(&server).await;
        let tokens = server.signed_in("ada@example.org").await;
        let after = metrics(&server).await;
        let more = |name| value(&after, name) - value(&before, name);
        // A registration and a login; each hash has waited once.
        assert_eq!(more("countersign_hashing_wait_seconds_count"), 2);
        assert_eq!(more("countersign_hashing_finished_total"), 2);
        assert!(more("countersign_database_wait_seconds_count") >= 2);

        for _ in 0..3 {
            server.validate(&tokens.access_token).await.unwrap();
        }
        let misses = "countersign_token_cache_misses_total";
        assert_eq!(value(&metrics(&server).await, misses) - value(&after, misses), 1);
    }
}

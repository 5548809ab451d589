//! A flood of garbage costs neither memory nor the good tokens' place.

use std::{fs, time::Instant};

use countersign::grpc::pb::{LoginRequest, RegisterRequest, ValidateTokenRequest};
use futures_util::{StreamExt as _, stream};

use crate::support::{Kind, PASSWORD, TestDatabase, process::TestProcess, reason};

const AT_ONCE: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_garbage_leaves_memory_and_good_tokens_alone() {
    flood(4_000).await;
}

/// By hand: `cargo test --test api -- --ignored --nocapture a_million`
#[ignore = "it takes minutes; run it by hand when the cache or the edge has changed"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_distinct_garbage_tokens_leave_memory_and_good_tokens_alone() {
    flood(1_000_000).await;
}

/// The server is a process of its own here, so that its memory can be told from the test's.
async fn flood(tokens: usize) {
    let database = TestDatabase::create(Kind::Sqlite).await;
    let settings = [
        // A line for each refusal would measure the terminal.
        ("COUNTERSIGN_LOG", "error"),
        // The good token has to outlive a million bad ones.
        ("COUNTERSIGN_ACCESS_TOKEN_TTL", "12h"),
    ];
    let server = TestProcess::start_with(&database, &settings).await;
    let good = good_token(&server).await;
    // Buffers, threads and allocator pools have their size before the first measurement.
    drown(&server, &good, 0..1_000).await;
    let before = resident_kib(&server);
    let start = Instant::now();
    drown(&server, &good, 1_000..tokens).await;
    let (after, took) = (resident_kib(&server), start.elapsed());
    println!(
        "{tokens} garbage tokens in {:.1} s: {before} KiB resident before, {after} KiB after",
        took.as_secs_f64()
    );
    validate(&server, &good).await.unwrap();
    let grown = after.saturating_sub(before);
    assert!(grown < 32 * 1024, "{grown} KiB more");
    server.kill().await;
}

async fn drown(server: &TestProcess, good: &str, numbers: std::ops::Range<usize>) {
    let calls = numbers.map(async |number| {
        let verdict = validate(server, &garbage(good, number)).await;
        assert_eq!(reason(verdict), "TOKEN_INVALID", "garbage {number}");
        if number.is_multiple_of(500) {
            validate(server, good).await.unwrap();
        }
    });
    stream::iter(calls)
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<()>>()
        .await;
}

/// No two are the same. They fall at different hurdles: no JWT at all, an unknown key, long, and, the
/// dearest, our own header and claims under a signature that is wrong.
fn garbage(good: &str, number: usize) -> String {
    let (message, signature) = good.rsplit_once('.').unwrap();
    match number % 4 {
        0 => format!("garbage {number}"),
        1 => format!("{number:x}.{message}.{signature}"),
        2 => format!("{message}.{number:0>6000}"),
        _ => {
            let digits = format!("{number:0>8}");
            format!("{message}.{digits}{}", &signature[digits.len()..])
        }
    }
}

async fn validate(
    server: &TestProcess,
    access_token: &str,
) -> Result<tonic::Response<countersign::grpc::pb::ValidateTokenResponse>, tonic::Status> {
    let request = ValidateTokenRequest {
        access_token: access_token.to_owned(),
        ..ValidateTokenRequest::default()
    };
    server.auth().validate_token(request).await
}

async fn good_token(server: &TestProcess) -> String {
    let register = RegisterRequest {
        email: "ada@example.org".to_owned(),
        password: PASSWORD.to_owned(),
        display_name: String::new(),
    };
    server.auth().register(register).await.unwrap();
    let login = LoginRequest {
        email: "ada@example.org".to_owned(),
        password: PASSWORD.to_owned(),
        device_label: String::new(),
        ..LoginRequest::default()
    };
    let answer = server.auth().login(login).await.unwrap().into_inner();
    answer.tokens.unwrap().access_token
}

/// `VmRSS` of the process.
fn resident_kib(server: &TestProcess) -> usize {
    let status =
        fs::read_to_string(format!("/proc/{}/status", server.child.id().unwrap())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

//! A flood of invalid tokens neither grows memory nor evicts valid tokens from the cache.

use std::{fs, time::Instant};

use countersign::grpc::pb::{LoginRequest, RegisterRequest, ValidateTokenRequest};
use futures_util::{StreamExt as _, stream};

use crate::support::{Kind, PASSWORD, TestDatabase, process::TestProcess, reason};

const AT_ONCE: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_invalid_tokens_neither_grows_memory_nor_evicts_valid_ones() {
    flood(4_000).await;
}

/// The server is a process of its own, so that its memory can be measured apart from the test's.
async fn flood(tokens: usize) {
    let database = TestDatabase::create(Kind::Sqlite).await;
    let settings = [
        // Access lines would cost more than the validation.
        ("COUNTERSIGN_LOG", "error"),
    ];
    let server = TestProcess::start_with(&database, &settings).await;
    let good = good_token(&server).await;
    // Buffers, threads and allocator pools reach their size before the first measurement.
    send_invalid(&server, &good, 0..1_000).await;
    let before = resident_kib(&server);
    let start = Instant::now();
    send_invalid(&server, &good, 1_000..tokens).await;
    let (after, took) = (resident_kib(&server), start.elapsed());
    println!(
        "{tokens} invalid tokens in {:.1} s: {before} KiB resident before, {after} KiB after",
        took.as_secs_f64()
    );
    validate(&server, &good).await.unwrap();
    let grown = after.saturating_sub(before);
    assert!(grown < 32 * 1024, "{grown} KiB more");
    server.kill().await;
}

async fn send_invalid(server: &TestProcess, good: &str, numbers: std::ops::Range<usize>) {
    let calls = numbers.map(async |number| {
        let result = validate(server, &invalid(good, number)).await;
        assert_eq!(reason(result), "TOKEN_INVALID", "token {number}");
        if number.is_multiple_of(500) {
            validate(server, good).await.unwrap();
        }
    });
    stream::iter(calls)
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<()>>()
        .await;
}

/// All are different. They fail at different checks: no JWT, an unknown key, too long, and, the most
/// expensive one, a wrong signature of our own header and claims.
fn invalid(good: &str, number: usize) -> String {
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

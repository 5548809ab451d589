//! A replica whose process was suspended (SIGSTOP, a paused virtual machine) does not present old knowledge as fresh.

use std::time::Duration;

use countersign::grpc::pb::ValidateTokenResponse;
use rustix::process::Signal;
use tokio::time::sleep;
use tonic::Status;

use crate::support::{Kind, TestDatabase, eventually, failure, process::TestProcess, reason};

/// Longer than the staleness that the tests allow.
const SUSPENDED: Duration = Duration::from_millis(2_500);

/// Suspends `reader`, logs out on `writer`, and resumes `reader` after calls have been sent to it. Returns the time of the
/// logout and the answers of `reader`.
async fn answers_after_a_suspension(
    writer: &TestProcess,
    reader: &TestProcess,
    email: &str,
) -> (i64, Vec<Result<ValidateTokenResponse, Status>>) {
    let tokens = writer.login(email).await.unwrap();
    eventually("the reader answers", async || {
        reader.validate(&tokens.access_token).await.is_ok()
    })
    .await;
    reader.signal(Signal::STOP);
    writer.logout(&tokens.refresh_token).await.unwrap();
    // The logout has taken effect on the writer.
    let status = writer.validate(&tokens.access_token).await.unwrap_err();
    assert_eq!(failure(&status).reason, "TOKEN_REVOKED");
    let logged_out_at = countersign::clock::Clock::System.now().seconds();
    sleep(SUSPENDED).await;
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let (mut client, access_token) = (reader.auth(), tokens.access_token.clone());
            tokio::spawn(async move {
                let request = countersign::grpc::pb::ValidateTokenRequest {
                    access_token,
                    ..Default::default()
                };
                client
                    .validate_token(request)
                    .await
                    .map(tonic::Response::into_inner)
            })
        })
        .collect();
    sleep(Duration::from_millis(100)).await;
    reader.signal(Signal::CONT);
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap());
    }
    eventually("the reader has caught up", async || {
        match reader.validate(&tokens.access_token).await {
            Err(status) => failure(&status).reason == "TOKEN_REVOKED",
            Ok(_) => false,
        }
    })
    .await;
    (logged_out_at, answers)
}

/// Two servers share a database, which SQLite does not allow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_the_reject_policy_calls_are_refused_until_revocations_were_read_again() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let writer = TestProcess::start(&database).await;
    writer.signed_in("ada@example.org").await;
    let reader = TestProcess::start_with(
        &database,
        &[
            ("COUNTERSIGN_STALE_POLICY", "reject"),
            ("COUNTERSIGN_REVOCATION_MAX_STALENESS", "1s"),
            ("COUNTERSIGN_REVOCATION_POLL_INTERVAL", "200ms"),
        ],
    )
    .await;
    for _ in 0..2 {
        let (_, answers) = answers_after_a_suspension(&writer, &reader, "ada@example.org").await;
        let mut stale = 0;
        for answer in answers {
            match reason(answer).as_str() {
                "REVOCATION_STATE_STALE" => stale += 1,
                "TOKEN_REVOKED" => {}
                other => panic!("{other}"),
            }
        }
        println!("{stale} of 20 calls were refused as stale");
    }
}

/// Two servers share a database, which SQLite does not allow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_the_serve_policy_revocation_as_of_is_not_later_than_the_suspension() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let writer = TestProcess::start(&database).await;
    writer.signed_in("ada@example.org").await;
    let reader = TestProcess::start_with(
        &database,
        &[("COUNTERSIGN_REVOCATION_POLL_INTERVAL", "200ms")],
    )
    .await;
    let (logged_out_at, answers) =
        answers_after_a_suspension(&writer, &reader, "ada@example.org").await;
    for answer in answers {
        match answer {
            Ok(valid) => {
                let as_of = valid.revocation_as_of.unwrap().seconds;
                assert!(as_of <= logged_out_at, "{as_of} {logged_out_at}");
            }
            Err(status) => assert_eq!(failure(&status).reason, "TOKEN_REVOKED"),
        }
    }
}

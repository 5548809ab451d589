//! Verifiers (the crate) of two replicas of which one stops and starts again on its port, while revocations and an emergency
//! rotation go on at the other one.

use std::time::Duration;

use countersign::grpc::pb::RotateSigningKeyRequest;
use countersign_verifier::{FeedStatus, Verifier, VerifyError};
use tokio::time::{Instant, timeout};

use crate::{
    revocation::Lateness,
    support::{Kind, PATIENCE, TestDatabase, TestServer, operator::bearing},
    verifier_crate::{becomes, connected, connected_again, start, verdict},
};

/// No other test listens on this address, so that none takes the port between the stop and the start.
const OWN_ADDRESS: &str = "127.0.0.2:0";

const REVOKED: Result<(), VerifyError> = Err(VerifyError::TokenRevoked);

async fn start_at(database: &TestDatabase, address: &str) -> TestServer {
    let address = [("COUNTERSIGN_GRPC_ADDR", address)];
    TestServer::start_on_system_clock(database, &address).await
}

/// Opens a session of `ada@example.org` and ends it. Returns its access token, and how long after the answer the last of the
/// verifiers refused that.
pub async fn ended_session(server: &TestServer, verifiers: &[Verifier]) -> (String, Duration) {
    let tokens = server.login("ada@example.org").await.unwrap();
    for verifier in verifiers {
        assert_eq!(verdict(verifier, &tokens.access_token), Ok(()));
    }
    server.logout(&tokens.refresh_token).await.unwrap();
    let answered = Instant::now();
    for verifier in verifiers {
        becomes(verifier, &tokens.access_token, REVOKED).await;
    }
    (tokens.access_token, answered.elapsed())
}

/// Waits until a verifier has no connection, and says how many it has had.
async fn interrupted(verifier: &Verifier) -> u64 {
    let mut states = verifier.states();
    let interrupted =
        states.wait_for(|state| matches!(state.status, FeedStatus::Interrupted { .. }));
    let state = timeout(PATIENCE, interrupted).await;
    state.expect("the stream ends").unwrap().connections
}

/// Waits until a verifier has a connection that is newer than so many.
async fn resumed(verifier: &Verifier, connections: u64) {
    let mut states = verifier.states();
    let resumed = states
        .wait_for(|state| state.status == FeedStatus::Current && state.connections > connections);
    let state = timeout(PATIENCE, resumed).await;
    drop(state.expect("the verifier connects again").unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn during_a_restart_connected_verifiers_learn_of_revocations_in_time_and_others_after_resuming()
 {
    let database = TestDatabase::create(Kind::Postgres).await;
    let here = start(&database).await;
    let there = start_at(&database, OWN_ADDRESS).await;
    let address = there.address.to_string();
    here.register("ada@example.org").await.unwrap();
    let all = [
        connected(&here).await,
        connected_again(&here).await,
        connected_again(&there).await,
    ];
    let (staying, moving) = (&all[..2], &all[2]);
    let lateness = Lateness::measure();
    let mut latencies = Vec::new();
    for round in 0..5 {
        let server = if round % 2 == 0 { &here } else { &there };
        latencies.push(ended_session(server, &all).await.1);
    }

    // Those of the replica that stays are told in time also while the other one stops, is away, and starts.
    let mut missed = Vec::new();
    let mut while_away = async |rounds| {
        for _ in 0..rounds {
            let (token, took) = ended_session(&here, staying).await;
            latencies.push(took);
            missed.push(token);
        }
    };
    tokio::join!(there.stop(), while_away(3));
    let connections = interrupted(moving).await;
    while_away(4).await;
    let (there, ()) = tokio::join!(start_at(&database, &address), while_away(3));
    assert_eq!(there.address.to_string(), address, "the same port");
    resumed(moving, connections).await;
    // The last of them may be so new that the replica that has just started learns of it a moment later.
    let since_resumed = Instant::now();
    for token in &missed {
        becomes(moving, token, REVOKED).await;
    }
    lateness.demand_in_time("missed by a replica away", &[since_resumed.elapsed()], 1);
    for round in 0..5 {
        let server = if round % 2 == 0 { &here } else { &there };
        latencies.push(ended_session(server, &all).await.1);
    }
    lateness.demand_in_time("while a replica restarts", &latencies, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emergency_rotation_during_a_restart_is_known_once_the_verifier_has_resumed() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let here = start(&database).await;
    let there = start_at(&database, OWN_ADDRESS).await;
    let address = there.address.to_string();
    let verifier = connected(&there).await;
    let admin = here.administrator().await;
    let old = here.signed_in("ada@example.org").await.access_token;
    becomes(&verifier, &old, Ok(())).await;

    there.stop().await;
    let connections = interrupted(&verifier).await;
    let request = bearing(&admin, RotateSigningKeyRequest { emergency: true });
    here.admin().rotate_signing_key(request).await.unwrap();
    assert_eq!(verdict(&verifier, &old), Ok(()), "nobody has told it yet");

    let there = start_at(&database, &address).await;
    resumed(&verifier, connections).await;
    assert_ne!(verdict(&verifier, &old), Ok(()), "the key is withdrawn");
    becomes(&verifier, &old, Err(VerifyError::TokenInvalid)).await;
    let new = there.login("ada@example.org").await.unwrap().access_token;
    becomes(&verifier, &new, Ok(())).await;
}

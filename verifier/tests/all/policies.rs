//! What happens to tokens while revocations are too old: serve, reject, ask the server.

use std::{sync::atomic::Ordering, time::Duration};

use countersign_verifier::{Demand, StalePolicy, Verifier, VerifierConfig, VerifyError};
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::support::{
    FakeServer, Issuer, Watch, config, connected, cursor, id, now_millis, of_session, soon, until,
    verdict,
};

fn with(policy: StalePolicy) -> VerifierConfig {
    config()
        .stale_policy(policy)
        .max_staleness(Duration::from_secs(60))
}

/// A verifier whose server has not read its database for ten minutes.
async fn behind(server: &mut FakeServer, policy: StalePolicy) -> (Verifier, Watch) {
    let address = server.address();
    let connecting = tokio::spawn(async move { Verifier::connect(&address, with(policy)).await });
    let watch = server.next_watch().await;
    let revoked = [of_session(&id(9))];
    watch.snapshot(&Issuer::shared().jwks(), &revoked).await;
    watch
        .heartbeat_as_of(&cursor(1, 1), now_millis() - 600_000)
        .await;
    let verifier = soon("the connection", connecting).await.unwrap().unwrap();
    until(&verifier, "the heartbeat", |state| state.cursor.is_some()).await;
    (verifier, watch)
}

#[tokio::test]
async fn policy_serve_verifies_with_stale_revocations() {
    let mut server = FakeServer::start().await;
    let (verifier, _watch) = behind(&mut server, StalePolicy::Serve).await;
    assert_eq!(
        verdict(&verifier, &Issuer::shared().token(&id(1), &id(2))),
        Ok(())
    );
}

#[tokio::test]
async fn policy_reject_answers_unavailable_while_revocations_are_stale() {
    let mut server = FakeServer::start().await;
    let (verifier, watch) = behind(&mut server, StalePolicy::Reject).await;
    let [good, revoked] = [1, 9].map(|session| Issuer::shared().token(&id(session), &id(2)));
    assert_eq!(verdict(&verifier, &good), Err(VerifyError::Stale));
    assert!(VerifyError::Stale.is_unavailable());
    assert_eq!(verdict(&verifier, &revoked), Err(VerifyError::TokenRevoked));
    watch.heartbeat(&cursor(1, 2)).await;
    until(&verifier, "the heartbeat", |state| {
        state.cursor.as_ref().unwrap().as_str() == cursor(1, 2)
    })
    .await;
    assert_eq!(verdict(&verifier, &good), Ok(()));
}

#[tokio::test]
async fn ask_server_joins_the_questions_about_one_token() {
    let mut server = FakeServer::start().await;
    let (verifier, _watch) = behind(&mut server, StalePolicy::AskServer).await;
    *server.behaviour.validation_delay.lock().unwrap() = Duration::from_millis(300);
    let token = Issuer::shared().token(&id(1), &id(2));
    let demand = Demand::new();
    assert_eq!(
        verdict(&verifier, &token),
        Err(VerifyError::Stale),
        "the local answer"
    );
    let asks: Vec<_> = (0..20)
        .map(|_| {
            let (verifier, token) = (verifier.clone(), token.clone());
            tokio::spawn(async move { verifier.verify_or_ask(&token, &Demand::new()).await })
        })
        .collect();
    for ask in asks {
        let claims = soon("the answer", ask).await.unwrap().unwrap();
        assert_eq!(claims.session_id.to_string(), id(1));
    }
    assert_eq!(server.behaviour.validation_calls.load(Ordering::SeqCst), 1);
    // The answer is not kept.
    verifier.verify_or_ask(&token, &demand).await.unwrap();
    assert_eq!(server.behaviour.validation_calls.load(Ordering::SeqCst), 2);
    // What the server does not judge is judged here.
    let demand = Demand::new().role("writer");
    let verdict = verifier.verify_or_ask(&token, &demand).await;
    assert_eq!(verdict.map(|_| ()), Err(VerifyError::InsufficientRole));
}

#[tokio::test]
async fn ask_server_distinguishes_a_refusal_from_an_outage() {
    let mut server = FakeServer::start().await;
    let (verifier, _watch) = behind(&mut server, StalePolicy::AskServer).await;
    let refused = |reason: &str| {
        let details = ErrorDetails::with_error_info(reason, "auth.countersign.v1", []);
        Status::with_error_details(tonic::Code::Unauthenticated, "no", details)
    };
    for (status, expected) in [
        (refused("TOKEN_REVOKED"), VerifyError::TokenRevoked),
        (refused("TOKEN_EXPIRED"), VerifyError::TokenExpired),
        (refused("TOKEN_INVALID"), VerifyError::TokenInvalid),
        (Status::unavailable("no"), VerifyError::ServerUnavailable),
        // A proxy in between that speaks for nobody.
        (
            Status::unauthenticated("no"),
            VerifyError::ServerUnavailable,
        ),
    ] {
        *server.behaviour.validation.lock().unwrap() = Some(status);
        let token = Issuer::shared().token(&id(1), &id(2));
        let verdict = verifier.verify_or_ask(&token, &Demand::new()).await;
        assert_eq!(verdict.map(|_| ()), Err(expected));
    }
    server.stop();
    let token = Issuer::shared().token(&id(1), &id(2));
    let verdict = soon("the answer", verifier.verify_or_ask(&token, &Demand::new())).await;
    assert_eq!(verdict.map(|_| ()), Err(VerifyError::ServerUnavailable));
}

#[tokio::test]
async fn a_token_is_not_asked_about_while_knowledge_is_fresh() {
    let mut server = FakeServer::start().await;
    let (verifier, _watch) = connected(&mut server, with(StalePolicy::AskServer)).await;
    let token = Issuer::shared().token(&id(1), &id(2));
    verifier
        .verify_or_ask(&token, &Demand::new())
        .await
        .unwrap();
    assert_eq!(server.behaviour.validation_calls.load(Ordering::SeqCst), 0);
}

//! The feed on good days: snapshot, changes, keys, cursors.

use std::{sync::atomic::Ordering, time::Duration};

use countersign_verifier::{Demand, FeedStatus, Verifier, VerifyError};
use serde_json::json;

use crate::support::{
    FakeServer, Issuer, config, connected, cursor, id, now_millis, of_session, of_user, soon,
    until, verdict,
};

#[tokio::test]
async fn no_token_is_judged_before_the_first_snapshot_is_complete() {
    let mut server = FakeServer::start().await;
    let verifier = Verifier::connect_lazy(server.address(), config()).unwrap();
    let token = Issuer::shared().token(&id(1), &id(2));
    let watch = server.next_watch().await;
    watch.jwks(&Issuer::shared().jwks()).await;
    watch.revocations(&[of_session(&id(1))]).await;
    assert_eq!(verdict(&verifier, &token), Err(VerifyError::NotReady));
    assert_eq!(verifier.as_of(), None);
    watch.snapshot(&Issuer::shared().jwks(), &[]).await;
    until(&verifier, "the snapshot", |state| state.is_ready).await;
    assert_eq!(verdict(&verifier, &token), Err(VerifyError::TokenRevoked));
}

#[tokio::test]
async fn a_valid_token_is_accepted_with_its_claims() {
    let mut server = FakeServer::start().await;
    let (verifier, watch) = connected(&mut server, config()).await;
    assert_eq!(watch.bearer, "Bearer the verifier's own token");
    assert_eq!(watch.cursor, "");
    let token = Issuer::shared().token(&id(1), &id(2));
    let claims = verifier
        .verify(&token, &Demand::new().role("reader"))
        .unwrap();
    assert_eq!(claims.subject.to_string(), id(2));
    assert_eq!(claims.session_id.to_string(), id(1));
    assert_eq!(claims.roles, ["reader"]);
    assert!(verifier.as_of().is_some());
    assert!(verifier.staleness() < Duration::from_secs(30));
    let writer = Demand::new().role("writer");
    let verdict = verifier.verify(&token, &writer).map(|_| ());
    assert_eq!(verdict, Err(VerifyError::InsufficientRole));
}

#[tokio::test]
async fn a_revocation_ends_a_token_that_was_accepted_before() {
    let mut server = FakeServer::start().await;
    let (verifier, watch) = connected(&mut server, config()).await;
    let [by_session, by_user, other] =
        [(1, 2), (3, 4), (5, 6)].map(|(sid, sub)| Issuer::shared().token(&id(sid), &id(sub)));
    for token in [&by_session, &by_user, &other] {
        assert_eq!(verdict(&verifier, token), Ok(()));
    }
    let revoked = [of_session(&id(1)), of_user(&id(4), now_millis())];
    watch.revocations(&revoked).await;
    watch.heartbeat(&cursor(1, 2)).await;
    until(&verifier, "the heartbeat", |state| {
        state.cursor.as_ref().unwrap().as_str() == cursor(1, 2)
    })
    .await;
    assert_eq!(
        verdict(&verifier, &by_session),
        Err(VerifyError::TokenRevoked)
    );
    assert_eq!(verdict(&verifier, &by_user), Err(VerifyError::TokenRevoked));
    assert_eq!(verdict(&verifier, &other), Ok(()));
    assert_eq!(verifier.revocation_count(), 2);
}

#[tokio::test]
async fn keys_are_followed_and_tokens_of_a_withdrawn_key_are_invalid_even_when_cached() {
    let mut server = FakeServer::start().await;
    let (verifier, watch) = connected(&mut server, config()).await;
    let (old, new) = (Issuer::shared(), Issuer::new("second"));
    let [old_token, new_token] = [old, &new].map(|issuer| issuer.token(&id(1), &id(2)));
    assert_eq!(verdict(&verifier, &old_token), Ok(()));
    let unknown = Err(VerifyError::KeyUnknown);
    assert_eq!(verdict(&verifier, &new_token), unknown);
    watch
        .jwks(&json!({"keys": [old.jwk(), new.jwk()]}).to_string())
        .await;
    watch.heartbeat(&cursor(1, 2)).await;
    soon("the new key", async {
        while verdict(&verifier, &new_token).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(verdict(&verifier, &old_token), Ok(()));
    watch.jwks(&new.jwks()).await;
    soon("the end of the old key", async {
        while verdict(&verifier, &old_token).is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(verdict(&verifier, &new_token), Ok(()));
}

#[tokio::test]
async fn an_unknown_key_is_fetched_before_its_token_is_refused() {
    let mut server = FakeServer::start().await;
    let (verifier, _watch) = connected(&mut server, config()).await;
    let new = Issuer::new("second");
    *server.behaviour.jwks.lock().unwrap() = new.jwks();
    let demand = Demand::new();
    let [good, strange] =
        [&new, &Issuer::new("strange")].map(|issuer| issuer.token(&id(1), &id(2)));
    let verdict = soon("the keys", verifier.verify_or_ask(&good, &demand)).await;
    assert_eq!(verdict.map(|_| ()), Ok(()));
    let verdict = soon("the answer", verifier.verify_or_ask(&strange, &demand)).await;
    assert_eq!(verdict.map(|_| ()), Err(VerifyError::TokenInvalid));
    assert_eq!(server.behaviour.jwks_calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn verify_at_least_waits_until_the_cursor_is_reached() {
    let mut server = FakeServer::start().await;
    let (verifier, watch) = connected(&mut server, config()).await;
    let token = Issuer::shared().token(&id(1), &id(2));
    let wanted = cursor(1, 9).parse().unwrap();
    let demand = Demand::new();
    let early = verifier.verify_at_least(&token, &demand, &wanted, Duration::from_millis(50));
    assert_eq!(early.await.map(|_| ()), Err(VerifyError::Stale));

    let patience = Duration::from_secs(30);
    let waiting = verifier.verify_at_least(&token, &demand, &wanted, patience);
    let sending = async {
        watch.revocations(&[of_session(&id(1))]).await;
        watch.heartbeat(&cursor(1, 9)).await;
    };
    let (verdict, ()) = tokio::join!(waiting, sending);
    assert_eq!(verdict.map(|_| ()), Err(VerifyError::TokenRevoked));
}

#[tokio::test]
async fn a_cursor_of_another_epoch_is_not_reached() {
    let mut server = FakeServer::start().await;
    let (verifier, _watch) = connected(&mut server, config()).await;
    let token = Issuer::shared().token(&id(1), &id(2));
    let other = cursor(2, 0).parse().unwrap();
    let short = Duration::from_millis(50);
    let demand = Demand::new();
    let verdict = verifier.verify_at_least(&token, &demand, &other, short);
    assert_eq!(verdict.await.map(|_| ()), Err(VerifyError::Stale));
    // What is bad anyway is told at once.
    let long = Duration::from_secs(3_600);
    let verdict = soon(
        "the answer",
        verifier.verify_at_least("x", &demand, &other, long),
    );
    assert_eq!(verdict.await.map(|_| ()), Err(VerifyError::TokenInvalid));
}

#[tokio::test]
async fn a_snapshot_of_100_000_revocations_is_taken_whole() {
    let mut server = FakeServer::start().await;
    let verifier = Verifier::connect_lazy(server.address(), config()).unwrap();
    let watch = server.next_watch().await;
    let all: Vec<_> = (0..100_000_u32)
        .map(|number| of_session(&format!("0193735b-2a00-7000-8000-{number:012x}")))
        .collect();
    for batch in all.chunks(256) {
        watch.revocations(batch).await;
    }
    watch.snapshot(&Issuer::shared().jwks(), &[]).await;
    until(&verifier, "the snapshot", |state| state.is_ready).await;
    assert_eq!(verifier.revocation_count(), 100_000);
    let revoked = Issuer::shared().token(&id(1), &id(2));
    assert_eq!(verdict(&verifier, &revoked), Err(VerifyError::TokenRevoked));
}

#[tokio::test]
async fn the_feed_ends_with_the_last_verifier() {
    let mut server = FakeServer::start().await;
    let (verifier, watch) = connected(&mut server, config()).await;
    let clone = verifier.clone();
    drop(verifier);
    assert_eq!(clone.state().status, FeedStatus::Current);
    drop(clone);
    watch.dropped().await;
}

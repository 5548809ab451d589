//! The feed on bad days: whatever happens, nobody is called unauthenticated for what the verifier does not know.

use std::{sync::atomic::Ordering, time::Duration};

use countersign_verifier::{FeedStatus, Verifier, VerifyError, pb};
use tonic::{Code, Status};

use crate::support::{
    FakeServer, Issuer, config, connected, cursor, id, now_millis, of_session, of_user, soon,
    until, verdict,
};

fn is_interrupted(status: &FeedStatus) -> bool {
    matches!(status, FeedStatus::Interrupted { .. })
}

#[tokio::test]
async fn a_server_that_goes_away_and_comes_back_is_resumed_by_cursor() {
    let mut server = FakeServer::start().await;
    let (verifier, watch) = connected(&mut server, config()).await;
    watch.revocations(&[of_session(&id(1))]).await;
    watch.heartbeat(&cursor(1, 5)).await;
    until(&verifier, "the heartbeat", |state| {
        state.cursor.as_ref().unwrap().as_str() == cursor(1, 5)
    })
    .await;
    server.stop();
    until(&verifier, "the end of the stream", |state| {
        is_interrupted(&state.status)
    })
    .await;
    let [revoked, later, good] =
        [1, 3, 5].map(|session| Issuer::shared().token(&id(session), &id(2)));
    assert_eq!(verdict(&verifier, &revoked), Err(VerifyError::TokenRevoked));
    assert_eq!(verdict(&verifier, &good), Ok(()), "verification goes on");

    server.run().await;
    let resumed = server.next_watch().await;
    assert_eq!(resumed.cursor, cursor(1, 5));
    resumed
        .snapshot(&Issuer::shared().jwks(), &[of_session(&id(3))])
        .await;
    resumed.heartbeat(&cursor(1, 6)).await;
    until(&verifier, "the second connection", |state| {
        state.connections == 2
    })
    .await;
    assert_eq!(verdict(&verifier, &later), Err(VerifyError::TokenRevoked));
    assert_eq!(
        verdict(&verifier, &revoked),
        Err(VerifyError::TokenRevoked),
        "kept"
    );
    assert_eq!(verdict(&verifier, &good), Ok(()));
}

#[tokio::test]
async fn a_silent_stream_is_closed_and_resumed() {
    let mut server = FakeServer::start().await;
    let config = config().silence(Duration::from_secs(2));
    let (verifier, watch) = connected(&mut server, config).await;
    watch.dropped().await;
    let resumed = server.next_watch().await;
    assert_eq!(resumed.cursor, cursor(1, 1));
    assert!(is_interrupted(&verifier.state().status));
}

#[tokio::test]
async fn an_incomplete_snapshot_is_not_used() {
    let mut server = FakeServer::start().await;
    let verifier = Verifier::connect_lazy(server.address(), config()).unwrap();
    let token = Issuer::shared().token(&id(1), &id(2));
    let first = server.next_watch().await;
    first.jwks(&Issuer::shared().jwks()).await;
    first.revocations(&[of_session(&id(9))]).await;
    server.stop();
    until(&verifier, "the end of the stream", |state| {
        is_interrupted(&state.status)
    })
    .await;
    assert_eq!(verdict(&verifier, &token), Err(VerifyError::NotReady));
    server.run().await;
    let second = server.next_watch().await;
    assert_eq!(second.cursor, "", "nothing was complete");
    second
        .snapshot(&Issuer::shared().jwks(), &[of_session(&id(1))])
        .await;
    until(&verifier, "the snapshot", |state| state.is_ready).await;
    assert_eq!(verdict(&verifier, &token), Err(VerifyError::TokenRevoked));
    assert_eq!(
        verifier.revocation_count(),
        1,
        "only the complete snapshot counts"
    );
}

#[tokio::test]
async fn a_resumed_stream_that_breaks_off_before_its_snapshot_is_complete_does_not_move_the_cursor()
{
    let mut server = FakeServer::start().await;
    let (verifier, watch) = connected(&mut server, config()).await;
    let age = verifier.state().as_of;
    watch.end(Status::unavailable("restarts")).await;
    let second = server.next_watch().await;
    second.jwks(&Issuer::shared().jwks()).await;
    second.revocations(&[of_session(&id(3))]).await;
    // No server says so before the snapshot is complete: what is still to come would be lost.
    second.heartbeat(&cursor(1, 7)).await;
    // That it has been read is seen by what came after it.
    second.revocations(&[of_session("not an id")]).await;
    until(&verifier, "the malformed revocation", |state| {
        state.malformed == 1
    })
    .await;
    server.stop();
    server.run().await;
    let third = server.next_watch().await;
    assert_eq!(third.cursor, cursor(1, 1));
    assert_eq!(verifier.state().as_of, age);
    let [early, good] = [3, 5].map(|session| Issuer::shared().token(&id(session), &id(2)));
    assert_eq!(verdict(&verifier, &early), Err(VerifyError::TokenRevoked));
    assert_eq!(verdict(&verifier, &good), Ok(()), "verification goes on");
}

#[tokio::test]
async fn in_a_new_epoch_earlier_revocations_are_kept() {
    let mut server = FakeServer::start().await;
    let (verifier, watch) = connected(&mut server, config()).await;
    watch.revocations(&[of_session(&id(1))]).await;
    watch.heartbeat(&cursor(1, 900)).await;
    until(&verifier, "the heartbeat", |state| {
        state.cursor.as_ref().unwrap().as_str() == cursor(1, 900)
    })
    .await;
    watch.end(Status::unavailable("restored")).await;
    let resumed = server.next_watch().await;
    assert_eq!(resumed.cursor, cursor(1, 900));
    resumed
        .snapshot(&Issuer::shared().jwks(), &[of_session(&id(3))])
        .await;
    resumed.revocations(&[of_session(&id(4))]).await;
    resumed.heartbeat(&cursor(2, 3)).await;
    until(&verifier, "the new epoch", |state| {
        state.cursor.as_ref().unwrap().as_str() == cursor(2, 3)
    })
    .await;
    let verdicts =
        [1, 3, 4].map(|session| verdict(&verifier, &Issuer::shared().token(&id(session), &id(2))));
    let revoked = Err(VerifyError::TokenRevoked);
    assert_eq!(
        verdicts, [revoked; 3],
        "a revocation that the database lost is forgotten"
    );
}

#[tokio::test]
async fn malformed_parts_of_the_feed_are_ignored_and_counted() {
    let mut server = FakeServer::start().await;
    let (verifier, watch) = connected(&mut server, config()).await;
    let mut no_end = of_session(&id(1));
    no_end.expire_time = None;
    let mut no_start = of_user(&id(2), 0);
    no_start.not_before_time = None;
    let malformed = [
        of_session("not an id"),
        of_user("", now_millis()),
        no_end,
        no_start,
        pb::Revocation::default(),
    ];
    watch.revocations(&malformed).await;
    watch.revocations(&[of_session(&id(7))]).await;
    watch.jwks("{").await;
    watch.jwks(&Issuer::shared().jwks()).await;
    watch.heartbeat("not a cursor!").await;
    watch.heartbeat(&cursor(1, 8)).await;
    until(&verifier, "the last heartbeat", |state| {
        state.cursor.as_ref().unwrap().as_str() == cursor(1, 8)
    })
    .await;
    assert_eq!(verifier.state().malformed, 7);
    assert_eq!(verifier.revocation_count(), 1);
    assert_eq!(
        verdict(&verifier, &Issuer::shared().token(&id(3), &id(4))),
        Ok(())
    );
}

#[tokio::test]
async fn a_snapshot_without_keys_that_can_be_read_is_not_used() {
    let mut server = FakeServer::start().await;
    let verifier = Verifier::connect_lazy(server.address(), config()).unwrap();
    let watch = server.next_watch().await;
    watch.snapshot("[]", &[]).await;
    watch.dropped().await;
    let token = Issuer::shared().token(&id(1), &id(2));
    assert_eq!(verdict(&verifier, &token), Err(VerifyError::NotReady));
    let again = server.next_watch().await;
    again.snapshot(&Issuer::shared().jwks(), &[]).await;
    until(&verifier, "the snapshot", |state| state.is_ready).await;
    assert_eq!(verdict(&verifier, &token), Ok(()));
}

#[tokio::test]
async fn a_flood_of_unknown_keys_is_one_request() {
    let mut server = FakeServer::start().await;
    let (verifier, watch) = connected(&mut server, config()).await;
    let new = Issuer::new("second");
    let [strange, good] =
        [Issuer::new("strange"), Issuer::new("second")].map(|issuer| issuer.token(&id(1), &id(2)));
    // Only the stream is gone: keys can still be asked for.
    *server.behaviour.jwks.lock().unwrap() = new.jwks();
    server.refuse(Status::new(Code::ResourceExhausted, "too many watchers"));
    drop(watch);
    until(&verifier, "the end of the stream", |state| {
        is_interrupted(&state.status)
    })
    .await;
    for _ in 0..1_000 {
        assert_eq!(verdict(&verifier, &strange), Err(VerifyError::KeyUnknown));
    }
    soon("the keys", async {
        while verdict(&verifier, &new.token(&id(1), &id(2))).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    for _ in 0..1_000 {
        assert_eq!(verdict(&verifier, &strange), Err(VerifyError::KeyUnknown));
    }
    // Another key under the same name does not verify.
    assert_eq!(verdict(&verifier, &good), Err(VerifyError::TokenInvalid));
    assert_eq!(server.behaviour.jwks_calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_revoked_key_is_not_added_again_by_a_replica_that_is_behind() {
    let mut server = FakeServer::start().await;
    let (verifier, watch) = connected(&mut server, config()).await;
    let new = Issuer::new("second");
    let old_token = Issuer::shared().token(&id(1), &id(2));
    watch.jwks(&new.jwks()).await;
    watch.heartbeat(&cursor(1, 2)).await;
    until(&verifier, "the heartbeat", |state| {
        state.cursor.as_ref().unwrap().as_str() == cursor(1, 2)
    })
    .await;
    *server.behaviour.jwks.lock().unwrap() = Issuer::shared().jwks();
    server.refuse(Status::unavailable("no"));
    drop(watch);
    until(&verifier, "the end of the stream", |state| {
        is_interrupted(&state.status)
    })
    .await;
    assert_eq!(verdict(&verifier, &old_token), Err(VerifyError::KeyUnknown));
    soon("the request", async {
        while server.behaviour.jwks_calls.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let demand = countersign_verifier::Demand::new();
    let verdict = verifier.verify_or_ask(&old_token, &demand).await;
    assert_eq!(verdict.map(|_| ()), Err(VerifyError::KeyUnknown));
}

#[tokio::test]
async fn a_cursor_that_the_server_refuses_is_discarded() {
    let mut server = FakeServer::start().await;
    let (verifier, watch) = connected(&mut server, config()).await;
    server.refuse(Status::invalid_argument("cursor"));
    drop(watch);
    until(&verifier, "the refusal of the cursor", |state| {
        state.cursor.is_none()
    })
    .await;
    server.refuse(None);
    let fresh = server.next_watch().await;
    assert_eq!(fresh.cursor, "");
}

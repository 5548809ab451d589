//! The feed on bad days: whatever happens, nobody is called unauthenticated for what the verifier does not know.

use std::{sync::atomic::Ordering, time::Duration};

use countersign_verifier::{
    ConnectError, Credential, CredentialError, FeedStatus, Verifier, VerifyError, pb,
};
use tonic::{Code, Status};

use crate::support::{
    FakeServer, Issuer, config, config_with, connected, cursor, id, now_millis, of_session,
    of_user, soon, until, verdict,
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
async fn a_wrong_credential_ends_the_start_with_a_clear_error() {
    for status in [
        Status::unauthenticated("no"),
        Status::permission_denied("no role"),
    ] {
        let server = FakeServer::start().await;
        server.refuse(status.clone());
        let address = server.address();
        let connecting = Verifier::connect(&address, config());
        let error = soon("the refusal", connecting).await.unwrap_err();
        let ConnectError::CredentialRefused(cause) = &error else {
            panic!("{error:?}")
        };
        assert!(cause.contains(status.message()), "{cause}");
    }
}

#[tokio::test]
async fn an_outage_at_the_start_is_not_reported_as_a_wrong_credential() {
    let mut server = FakeServer::start().await;
    let address = server.address();
    server.stop();
    let config = config().connect_timeout(Duration::from_millis(300));
    let error = soon("the end of the wait", Verifier::connect(&address, config)).await;
    assert!(
        matches!(error, Err(ConnectError::Unavailable(_))),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_credential_refused_later_is_reported_in_the_state_and_not_retried_in_a_loop() {
    let mut server = FakeServer::start().await;
    let (verifier, watch) = connected(&mut server, config()).await;
    server.refuse(Status::permission_denied("no role"));
    watch.end(Status::unauthenticated("expired")).await;
    until(&verifier, "the refusal", |state| {
        matches!(state.status, FeedStatus::CredentialRefused { .. })
    })
    .await;
    let calls = server.behaviour.watch_calls.load(Ordering::SeqCst);
    assert_eq!(calls, 2, "one more with a new token, then a long wait");
    let token = Issuer::shared().token(&id(1), &id(2));
    assert_eq!(
        verdict(&verifier, &token),
        Ok(()),
        "what is known still counts"
    );
}

#[tokio::test]
async fn an_expired_access_token_is_renewed_by_its_source() {
    let mut server = FakeServer::start().await;
    let numbers = std::sync::atomic::AtomicUsize::new(1);
    let credential = Credential::fetch(move || {
        let number = numbers.fetch_add(1, Ordering::SeqCst);
        async move { Ok(format!("token{number}")) }
    });
    let (verifier, watch) = connected(&mut server, config_with(credential)).await;
    assert_eq!(watch.bearer, "Bearer token1");
    watch.end(Status::unauthenticated("expired")).await;
    let resumed = server.next_watch().await;
    assert_eq!(resumed.bearer, "Bearer token2");
    assert_eq!(resumed.cursor, cursor(1, 1));
    assert!(is_interrupted(&verifier.state().status), "no refusal");
}

#[tokio::test]
async fn the_verifier_logs_in_once_and_again_after_its_session_has_ended() {
    let mut server = FakeServer::start().await;
    let login = Credential::login(server.address(), "gateway@example.org", "good password");
    let (_verifier, mut watch) = connected(&mut server, config_with(login.unwrap())).await;
    for expected in ["login", "login+", "login++"] {
        assert_eq!(watch.bearer, format!("Bearer {expected}"));
        watch.end(Status::unauthenticated("expired")).await;
        watch = server.next_watch().await;
        watch.snapshot(&Issuer::shared().jwks(), &[]).await;
    }
    server.behaviour.session_ended.store(true, Ordering::SeqCst);
    watch.end(Status::unauthenticated("expired")).await;
    assert_eq!(server.next_watch().await.bearer, "Bearer login");
}

#[tokio::test]
async fn a_wrong_password_ends_the_start_with_a_clear_error() {
    let server = FakeServer::start().await;
    let login = Credential::login(server.address(), "gateway@example.org", "wrong").unwrap();
    let address = server.address();
    let connecting = Verifier::connect(&address, config_with(login));
    let error = soon("the refusal", connecting).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::CredentialRefused(_)),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_service_key_gets_a_new_access_token_for_each_connection() {
    let mut server = FakeServer::start().await;
    let credential = Credential::service_key(server.address(), "csk_good");
    let (_verifier, mut watch) = connected(&mut server, config_with(credential.unwrap())).await;
    for number in 1..4 {
        assert_eq!(watch.bearer, format!("Bearer issued{number}"));
        watch.end(Status::unauthenticated("expired")).await;
        watch = server.next_watch().await;
        watch.snapshot(&Issuer::shared().jwks(), &[]).await;
    }
}

#[tokio::test]
async fn a_service_key_that_is_not_accepted_ends_the_start_with_a_clear_error() {
    let server = FakeServer::start().await;
    let address = server.address();
    let credential = Credential::service_key(&address, "csk_revoked").unwrap();
    let connecting = Verifier::connect(&address, config_with(credential));
    let error = soon("the refusal", connecting).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::CredentialRefused(_)),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_assertion_file_is_read_for_each_connection() {
    let mut server = FakeServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "assertion\n").unwrap();
    let credential = Credential::assertion_file(server.address(), &path).unwrap();
    let (verifier, watch) = connected(&mut server, config_with(credential)).await;
    assert_eq!(watch.bearer, "Bearer issued1");
    std::fs::remove_file(&path).unwrap();
    watch.end(Status::unavailable("restarts")).await;
    until(&verifier, "the missing file", |state| {
        matches!(&state.status, FeedStatus::Interrupted { cause } if cause.contains("token"))
    })
    .await;
    std::fs::write(&path, "assertion of another").unwrap();
    until(&verifier, "the refusal", |state| {
        matches!(state.status, FeedStatus::CredentialRefused { .. })
    })
    .await;
}

#[tokio::test]
async fn an_assertion_file_that_is_empty_or_too_long_interrupts_the_feed() {
    let server = FakeServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    for content in [" \n".to_owned(), "a".repeat(16 * 1024 + 1)] {
        std::fs::write(&path, content).unwrap();
        let credential = Credential::assertion_file(server.address(), &path).unwrap();
        let config = config_with(credential).connect_timeout(Duration::from_millis(200));
        let error = Verifier::connect(server.address(), config).await;
        assert!(
            matches!(error, Err(ConnectError::Unavailable(_))),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_token_source_that_refuses_is_distinguished_from_one_that_fails() {
    let server = FakeServer::start().await;
    let refusing = Credential::fetch(|| async {
        Err(CredentialError::Refused(
            "the service key is revoked".to_owned(),
        ))
    });
    let address = server.address();
    let connecting = Verifier::connect(&address, config_with(refusing));
    let error = soon("the refusal", connecting).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::CredentialRefused(_)),
        "{error:?}"
    );

    let failing =
        Credential::fetch(|| async { Err(CredentialError::Unavailable("no file".to_owned())) });
    let config = config_with(failing).connect_timeout(Duration::from_millis(300));
    let error = soon("the end", Verifier::connect(&address, config)).await;
    assert!(
        matches!(error, Err(ConnectError::Unavailable(_))),
        "{error:?}"
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

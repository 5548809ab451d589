//! A credential that is wrong, told from an outage; and how each kind of credential is renewed.

use std::{sync::atomic::Ordering, time::Duration};

use countersign_verifier::{ConnectError, Credential, CredentialError, FeedStatus, Verifier};
use tonic::Status;

use crate::support::{
    FakeServer, Issuer, config, config_with, connected, cursor, id, soon, until, verdict,
};

fn is_interrupted(status: &FeedStatus) -> bool {
    matches!(status, FeedStatus::Interrupted { .. })
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

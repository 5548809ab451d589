//! TLS on both ports: what clients get, what is refused, and how certificates are replaced.

use std::{
    fs,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::ExtendedKeyUsagePurpose;
use rustls::{ClientConfig, HandshakeKind};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::support::{
    PATIENCE, eventually,
    tls::{
        Authority, OPENING, TlsServer, assert_answered, channel, get, handshake, refusal, shown,
    },
};

/// Whether a GOAWAY frame without debug data is among the bytes (RFC 9113 section 6.8).
fn has_goaway(bytes: &[u8]) -> bool {
    bytes.windows(5).any(|header| header == [0, 0, 8, 7, 0])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ports_speak_tls_without_resumption() {
    let fixture = TlsServer::start().await;
    let config = fixture.grpc(None);
    assert_answered(
        &channel(fixture.server.address, Arc::clone(&config))
            .await
            .unwrap(),
    )
    .await;
    let health = get(
        fixture.server.http(),
        fixture.authority.trusted_by(None, b"http/1.1"),
        "/healthz",
    )
    .await;
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    for _ in 0..2 {
        let stream = handshake(fixture.server.address, Arc::clone(&config))
            .await
            .unwrap();
        let (_, connection) = stream.get_ref();
        assert_eq!(connection.alpn_protocol(), Some(b"h2".as_slice()));
        assert_eq!(connection.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_is_used_and_open_connections_continue() {
    let fixture = TlsServer::start().await;
    let (address, config) = (fixture.server.address, fixture.grpc(None));
    let before = shown(address, Arc::clone(&config)).await;
    let open = channel(address, Arc::clone(&config)).await.unwrap();
    assert_answered(&open).await;
    let next = fixture.authority.server();
    next.write(fixture.folder.path());
    eventually("the new certificate is shown", async || {
        shown(address, Arc::clone(&config)).await == next.der()
    })
    .await;
    assert_ne!(before, next.der());
    assert_answered(&open).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_written_or_mismatched_pair_is_refused_and_the_old_one_stays() {
    let fixture = TlsServer::start().await;
    let (address, config) = (fixture.server.address, fixture.grpc(None));
    let before = shown(address, Arc::clone(&config)).await;
    let failed = "countersign_tls_last_failed_reload";
    assert_eq!(fixture.metric(failed).await, 0);
    let next = fixture.authority.server();
    // Only the certificate: its key is still the old one.
    fs::write(fixture.folder.path().join("tls.crt"), &next.pem).unwrap();
    eventually("the failure is reported", async || {
        fixture.metric(failed).await > 0
    })
    .await;
    assert_eq!(shown(address, Arc::clone(&config)).await, before);
    fs::write(fixture.folder.path().join("tls.key"), &next.key[..40]).unwrap();
    fs::write(fixture.folder.path().join("tls.key"), &next.key).unwrap();
    eventually("the whole pair is taken", async || {
        shown(address, Arc::clone(&config)).await == next.der()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_required_client_certificate_is_checked_and_refusals_are_logged_and_counted() {
    let (clients, strangers) = (Authority::new("clients"), Authority::new("strangers"));
    let settings = [("COUNTERSIGN_TLS_CLIENT_AUTH", "required")];
    let fixture = TlsServer::start_with(Some(&clients), &settings).await;
    let address = fixture.server.address;
    let good = clients.client();
    assert_answered(&channel(address, fixture.grpc(Some(&good))).await.unwrap()).await;

    let expired = clients.sign("gateway.example.org", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let for_servers = clients.sign("gateway.example.org", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let stranger = strangers.client();
    for (own, reason, alert) in [
        (None, "no_certificate", "CertificateRequired"),
        (Some(&stranger), "unknown_issuer", "UnknownCA"),
        (Some(&expired), "expired", "CertificateExpired"),
        (Some(&for_servers), "purpose", "UnsupportedCertificate"),
    ] {
        let told = refusal(address, fixture.grpc(own)).await;
        assert!(told.contains(alert), "{reason}: {told}");
        assert_eq!(fixture.refused(reason).await, 1, "{reason}");
    }
    // The HTTP port asks for none: its documents are public.
    assert!(fixture.metric("countersign_tls_client_ca_not_after").await > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_optional_client_certificate_may_be_missing_but_not_wrong() {
    let (clients, strangers) = (Authority::new("clients"), Authority::new("strangers"));
    let fixture = TlsServer::start_with(Some(&clients), &[]).await;
    let address = fixture.server.address;
    assert_answered(&channel(address, fixture.grpc(None)).await.unwrap()).await;
    assert_answered(
        &channel(address, fixture.grpc(Some(&clients.client())))
            .await
            .unwrap(),
    )
    .await;
    let told = refusal(address, fixture.grpc(Some(&strangers.client()))).await;
    assert!(told.contains("UnknownCA"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_a_replaced_authority_end() {
    let (before, after) = (Authority::new("before"), Authority::new("after"));
    let fixture = TlsServer::start_with(Some(&before), &[]).await;
    let address = fixture.server.address;
    let own = before.client();
    let mut with_certificate = handshake(address, fixture.grpc(Some(&own))).await.unwrap();
    with_certificate.write_all(OPENING).await.unwrap();
    let without = channel(address, fixture.grpc(None)).await.unwrap();
    assert_answered(&without).await;
    fs::write(fixture.folder.path().join("ca.crt"), &after.pem).unwrap();
    let mut bytes = Vec::new();
    let ended = timeout(PATIENCE, with_certificate.read_to_end(&mut bytes));
    let _ = ended.await.expect("the connection ends");
    assert!(has_goaway(&bytes), "{bytes:?}");
    assert_answered(&without).await;
    assert!(
        refusal(address, fixture.grpc(Some(&own)))
            .await
            .contains("UnknownCA")
    );
    assert_answered(
        &channel(address, fixture.grpc(Some(&after.client())))
            .await
            .unwrap(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_text_and_handshakes_that_stop_are_counted() {
    let fixture = TlsServer::start_with(None, &[("COUNTERSIGN_HANDSHAKE_TIMEOUT", "500ms")]).await;
    let address = fixture.server.address;
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    eventually("plain text is counted", async || {
        fixture.refused("plaintext").await == 1
    })
    .await;
    let silent = TcpStream::connect(address).await.unwrap();
    eventually("a silent client is counted", async || {
        fixture.refused("timed_out").await == 1
    })
    .await;
    drop(silent);
    drop(TcpStream::connect(address).await.unwrap());
    eventually("a client that leaves is counted", async || {
        fixture.refused("closed").await == 1
    })
    .await;
    let no_protocol = fixture.authority.trusted_by(None, b"http/1.1");
    assert!(
        refusal(address, no_protocol)
            .await
            .contains("NoApplicationProtocol")
    );
    assert_eq!(fixture.refused("no_alpn").await, 1);
}

/// Opens HTTP/2 and gives it time to end. Returns what the server sent.
async fn received_until_closed(
    fixture: &TlsServer,
    config: Arc<ClientConfig>,
    opening: &[u8],
) -> Vec<u8> {
    let mut stream = handshake(fixture.server.address, config).await.unwrap();
    stream.write_all(opening).await.unwrap();
    let mut bytes = Vec::new();
    let ended = timeout(PATIENCE, stream.read_to_end(&mut bytes));
    // The server may close without close_notify, which is an error here.
    let _ = ended.await.expect("the connection ends");
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_ends_with_the_certificate_of_its_client() {
    let clients = Authority::new("clients");
    let fixture = TlsServer::start_with(Some(&clients), &[]).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let until = Duration::from_secs(now.as_secs() + 10);
    let own = clients.sign("gateway.example.org", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + until;
    });
    let received = received_until_closed(&fixture, fixture.grpc(Some(&own)), OPENING).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(
        now >= until,
        "ended {:?} too early",
        until.saturating_sub(now)
    );
    assert!(has_goaway(&received), "{received:?}");
    let told = refusal(fixture.server.address, fixture.grpc(Some(&own))).await;
    assert!(told.contains("CertificateExpired"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_silent_after_its_handshake_is_closed() {
    let fixture = TlsServer::start_with(None, &[("COUNTERSIGN_HANDSHAKE_TIMEOUT", "500ms")]).await;
    for opening in [
        b"".as_slice(),
        &OPENING[..10],
        &OPENING[..OPENING.len() - 1],
    ] {
        let received = received_until_closed(&fixture, fixture.grpc(None), opening).await;
        assert_eq!(received, b"");
    }
}

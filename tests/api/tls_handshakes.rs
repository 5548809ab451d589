//! TLS handshakes that fail, stop or would resume a session: nobody else notices, and each is counted and told.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use rustix::process::Signal;
use rustls::{ClientConfig, HandshakeKind, version};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::support::{
    Kind, PATIENCE, TestDatabase, eventually,
    process::TestProcess,
    tls::{
        Authority, OPENING, TlsServer, channel, client_hello, get, handshake, refusal, refused,
        shown, signed_in, tls_variables, validate,
    },
    web,
};

/// The mark of the lines that are bounded.
const LINE: &str = "TLS: a handshake was refused";

/// How many lines about one reason may be written in the time since `began`: one in ten seconds.
fn allowed_lines(began: Instant) -> usize {
    1 + usize::try_from(began.elapsed().as_secs()).unwrap() / 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_incomplete_handshakes_do_not_delay_calls_and_are_closed_and_counted() {
    const BATCHES: usize = 4;
    const BATCH: usize = 250;
    let fixture = TlsServer::start_with(None, &[("COUNTERSIGN_HANDSHAKE_TIMEOUT", "2s")]).await;
    let (address, config) = (fixture.server.address, fixture.grpc(None));
    let other = channel(address, Arc::clone(&config)).await.unwrap();
    let token = signed_in(&other).await;
    let (is_over, calls) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let (ended, made) = (is_over.clone(), Arc::clone(&calls));
    let caller = tokio::spawn(async move {
        while !ended.is_cancelled() {
            validate(&other, &token)
                .await
                .expect("a call beside them is answered");
            made.fetch_add(1, Ordering::Relaxed);
        }
    });
    let hello = client_hello(config);
    for _ in 0..BATCHES {
        let before = calls.load(Ordering::Relaxed);
        let mut stopped = JoinSet::new();
        for number in 0..BATCH {
            // In the middle of the first message, or before the client's answer to what the server sends.
            let sent = match number % 2 {
                0 => hello[..hello.len() / 2].to_vec(),
                _ => hello.clone(),
            };
            stopped.spawn(async move {
                let mut client = TcpStream::connect(address).await.unwrap();
                client.write_all(&sent).await.unwrap();
                let closed = timeout(PATIENCE, client.read_to_end(&mut Vec::new())).await;
                // A reset is an end as well.
                let _ = closed.expect("the server closes a connection whose handshake stops");
            });
        }
        while let Some(ended) = stopped.join_next().await {
            ended.unwrap();
        }
        assert!(
            calls.load(Ordering::Relaxed) > before,
            "no call was answered beside the handshakes"
        );
    }
    is_over.cancel();
    caller.await.unwrap();
    let all = i64::try_from(BATCHES * BATCH).unwrap();
    eventually("each handshake that stopped is counted", async || {
        fixture.refused("timed_out").await == all
    })
    .await;
}

/// Opens HTTP/2 and reads what the server says first, which has the tickets of TLS 1.3 before it. `None`: refused.
async fn opened(fixture: &TlsServer, config: &Arc<ClientConfig>) -> Option<HandshakeKind> {
    let stream = handshake(fixture.server.address, Arc::clone(config)).await;
    let mut stream = stream.ok()?;
    stream.write_all(OPENING).await.ok()?;
    let mut bytes = [0; 64];
    let read = timeout(PATIENCE, stream.read(&mut bytes)).await;
    let read = read.expect("the server opens HTTP/2 or refuses").ok()?;
    let kind = stream.get_ref().1.handshake_kind();
    kind.filter(|_| read > 0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_remembers_its_session_is_checked_in_full_after_every_change() {
    const FULL: Option<HandshakeKind> = Some(HandshakeKind::Full);
    for version in [&version::TLS12, &version::TLS13] {
        let (before, after) = (Authority::new("before"), Authority::new("after"));
        let fixture = TlsServer::start_with(Some(&before), &[]).await;
        let address = fixture.server.address;
        let client = |own| fixture.authority.trusted_in(&[version], Some(own), b"h2");
        let (own, admitted) = (before.client(), after.client());
        let (config, admitted) = (client(&own), client(&admitted));
        for _ in 0..2 {
            assert_eq!(opened(&fixture, &config).await, FULL);
        }

        let next = fixture.authority.server();
        next.write(fixture.folder.path());
        let fresh = fixture.grpc(None);
        eventually("the new certificate is shown", async || {
            shown(address, Arc::clone(&fresh)).await == next.der()
        })
        .await;
        let seen = shown(address, Arc::clone(&config)).await;
        assert_eq!(
            seen,
            next.der(),
            "a remembered session hid the new certificate"
        );
        assert_eq!(opened(&fixture, &config).await, FULL);

        fs::write(fixture.folder.path().join("ca.crt"), &after.pem).unwrap();
        eventually("the new authority is taken", async || {
            opened(&fixture, &admitted).await == FULL
        })
        .await;
        let told = refusal(address, config).await;
        assert!(
            told.contains("UnknownCA"),
            "a remembered session of a removed authority: {told}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_with_tls_on_a_port_without_tls_are_counted_and_logged_at_a_limited_rate() {
    const CLIENTS: usize = 25;
    let database = TestDatabase::create(Kind::Sqlite).await;
    let began = Instant::now();
    let log = [("COUNTERSIGN_LOG_FORMAT", "json")];
    let (server, recording) = TestProcess::start_recorded(&database, &log).await;
    let authority = Authority::new("servers");
    let count = async || refused(&web::get(server.http(), "/metrics").await.body, "tls_off");
    assert_eq!(count().await, 0);
    for _ in 0..CLIENTS {
        for (address, protocol) in [(server.address, &b"h2"[..]), (server.http(), b"http/1.1")] {
            let config = authority.trusted_by(None, protocol);
            let said = timeout(PATIENCE, handshake(address, config)).await;
            said.expect("the client is answered").unwrap_err();
        }
    }
    let all = i64::try_from(2 * CLIENTS).unwrap();
    eventually("each client is counted", async || count().await == all).await;
    // What speaks plain text is none of them.
    server.signed_in("ada@example.org").await;
    assert_eq!(count().await, all);
    assert_eq!(server.end(Signal::TERM).await, Some(0));

    let (_, errors) = recording.finish().await;
    let lines: Vec<_> = errors.lines().filter(|line| line.contains(LINE)).collect();
    assert!(
        (1..=allowed_lines(began)).contains(&lines.len()),
        "{lines:?}"
    );
    for part in [
        "tls_off",
        "this port speaks plain text",
        "COUNTERSIGN_TLS",
        "127.0.0.1:",
    ] {
        assert!(lines[0].contains(part), "{part} is missing in {}", lines[0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_without_tls_on_a_port_with_tls_are_counted_and_logged_at_a_limited_rate() {
    const CLIENTS: usize = 50;
    let database = TestDatabase::create(Kind::Sqlite).await;
    let (authority, folder) = (Authority::new("servers"), tempfile::tempdir().unwrap());
    authority.server().write(folder.path());
    let files = tls_variables(folder.path(), None);
    let mut variables: Vec<_> = files
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    variables.push(("COUNTERSIGN_LOG_FORMAT", "json"));
    let began = Instant::now();
    let (server, recording) = TestProcess::start_recorded(&database, &variables).await;
    for _ in 0..CLIENTS {
        let mut client = TcpStream::connect(server.address).await.unwrap();
        client.write_all(OPENING).await.unwrap();
        let read = timeout(PATIENCE, client.read_to_end(&mut Vec::new())).await;
        let _ = read.expect("the server closes the connection");
    }
    let config = authority.trusted_by(None, b"http/1.1");
    let all = i64::try_from(CLIENTS).unwrap();
    eventually("each client is counted", async || {
        let metrics = get(server.http(), Arc::clone(&config), "/metrics").await;
        refused(&metrics, "plaintext") == all
    })
    .await;
    assert_eq!(server.end(Signal::TERM).await, Some(0));

    let (_, errors) = recording.finish().await;
    let lines: Vec<_> = errors.lines().filter(|line| line.contains(LINE)).collect();
    assert!(
        (1..=allowed_lines(began)).contains(&lines.len()),
        "{lines:?}"
    );
    assert!(lines[0].contains("plaintext"), "{}", lines[0]);
}

//! Certificates that are replaced: no call fails, what cannot be used changes nothing, and `config check` judges it beforehand.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::process::Signal;
use rustls::{ClientConfig, pki_types::CertificateDer};
use tokio_util::sync::CancellationToken;

use crate::support::{
    Kind, TestDatabase, eventually,
    process::{TestProcess, run},
    tls::{
        Authority, HOST, TlsServer, assert_answered, channel, get, shown, signed_in, tls_variables,
        validate, value,
    },
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Calls until `is_over`, and at least 2,500 times. No call fails, and no connection is refused.
async fn call(
    address: SocketAddr,
    config: Arc<ClientConfig>,
    token: String,
    keeps_connection: bool,
    is_over: CancellationToken,
) -> usize {
    let connect = async || {
        channel(address, Arc::clone(&config))
            .await
            .expect("a connection opens")
    };
    let (mut calls, mut connection) = (0, connect().await);
    while calls < 2_500 || !is_over.is_cancelled() {
        if !keeps_connection && calls % 100 == 99 {
            connection = connect().await;
        }
        if let Err(status) = validate(&connection, &token).await {
            panic!("call {calls} failed: {status}");
        }
        calls += 1;
    }
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_of_ten_thousand_fails_while_certificates_are_replaced_twice() {
    let fixture = TlsServer::start().await;
    let (address, config) = (fixture.server.address, fixture.grpc(None));
    let token = signed_in(&channel(address, Arc::clone(&config)).await.unwrap()).await;
    let is_over = CancellationToken::new();
    let callers: Vec<_> = [true, true, false, false]
        .map(|keeps_connection| {
            let (config, token) = (Arc::clone(&config), token.clone());
            tokio::spawn(call(
                address,
                config,
                token,
                keeps_connection,
                is_over.clone(),
            ))
        })
        .into();
    for _ in 0..2 {
        let next = fixture.authority.server();
        next.write(fixture.folder.path());
        eventually("the new certificate is shown", async || {
            shown(address, Arc::clone(&config)).await == next.der()
        })
        .await;
    }
    is_over.cancel();
    let mut calls = 0;
    for caller in callers {
        calls += caller.await.unwrap();
    }
    assert!(calls >= 10_000, "{calls}");
}

/// Puts a file in its place at once: the server never sees half of it.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, path).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_certificate_or_a_malformed_authority_is_logged_and_not_used() {
    let database = TestDatabase::create(Kind::Sqlite).await;
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let folder = tempfile::tempdir().unwrap();
    let first = servers.server();
    first.write(folder.path());
    let files = tls_variables(folder.path(), Some(&clients));
    let mut variables: Vec<_> = files
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    variables.push(("COUNTERSIGN_LOG_FORMAT", "json"));
    let (server, recording) = TestProcess::start_recorded(&database, &variables).await;

    let web = servers.trusted_by(None, b"http/1.1");
    let failed = async || {
        let metrics = get(server.http(), Arc::clone(&web), "/metrics").await;
        value(&metrics, "countersign_tls_last_failed_reload")
    };
    let own = clients.client();
    let is_as_before = async |certificate: CertificateDer<'static>| {
        let config = servers.trusted_by(Some(&own), b"h2");
        assert_eq!(
            shown(server.address, Arc::clone(&config)).await,
            certificate
        );
        assert_answered(&channel(server.address, config).await.unwrap()).await;
        let ready = get(server.http(), Arc::clone(&web), "/readyz").await;
        assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    };
    is_as_before(first.der()).await;
    assert_eq!(failed().await, 0);

    let certificate = folder.path().join("tls.crt");
    let expired = |params: &mut rcgen::CertificateParams| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    };
    replace(&certificate, &servers.sign_again(&first, expired).pem);
    eventually("the expired certificate is refused", async || {
        failed().await > 0
    })
    .await;
    is_as_before(first.der()).await;

    let next = servers.sign_again(&first, |_| {});
    replace(&certificate, &next.pem);
    let config = servers.trusted_by(None, b"h2");
    eventually("a good certificate is taken after it", async || {
        shown(server.address, Arc::clone(&config)).await == next.der()
    })
    .await;
    let since = failed().await;
    replace(&folder.path().join("ca.crt"), "no PEM");
    eventually("the authorities are refused", async || {
        failed().await > since
    })
    .await;
    is_as_before(next.der()).await;
    assert_eq!(server.end(Signal::TERM).await, Some(0));

    let (_, errors) = recording.finish().await;
    let mark = "the changed files cannot be used; the previous certificates stay in use";
    let lines: Vec<_> = errors.lines().filter(|line| line.contains(mark)).collect();
    let [expired, no_pem] = lines[..] else {
        panic!("{lines:?}")
    };
    for (line, variable, cause) in [
        (
            expired,
            "COUNTERSIGN_TLS_CERT_FILE: ",
            "holds a certificate that has expired",
        ),
        (
            no_pem,
            "COUNTERSIGN_TLS_CLIENT_CA_FILE: ",
            "holds no certificate",
        ),
    ] {
        assert!(line.contains(variable) && line.contains(cause), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn config_check_prints_the_remaining_days_of_a_certificate_and_refuses_an_expired_one() {
    let database = TestDatabase::create(Kind::Sqlite).await;
    let (servers, folder) = (Authority::new("servers"), tempfile::tempdir().unwrap());
    let files = tls_variables(folder.path(), None);
    let variables: Vec<_> = files
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let check = async |not_after| {
        let certificate = servers.sign(HOST, |params| params.not_after = not_after);
        certificate.write(folder.path());
        let output = run(&database, &variables, &["config", "check"]).await;
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(now.as_secs());

    let (code, said, _) = check(now + 30 * DAY + DAY / 2).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("certificate  valid for 30 days"), "{said}");
    assert!(!said.contains("expires within"), "{said}");
    let (code, said, _) = check(now + 3 * DAY + DAY / 2).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("certificate  valid for 3 days"), "{said}");
    assert!(
        said.contains("warning      the certificate expires within 14 days"),
        "{said}"
    );
    let (code, _, error) = check(now - DAY).await;
    assert_eq!(code, Some(78), "{error}");
    assert!(
        error.starts_with("COUNTERSIGN_TLS_CERT_FILE: ") && error.contains("has expired"),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1, "{error}");
}

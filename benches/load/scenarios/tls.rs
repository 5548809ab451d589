//! `ValidateToken` over TLS against plaintext, and full handshakes against a bare rustls server.

use std::{fs, path::Path, sync::Arc, time::Duration};

use rcgen::{CertificateParams, KeyPair};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, client::Resumption, pki_types::CertificateDer},
};

use super::{Bench, validate::Side};
use crate::{
    driver::{Client, float, in_turn, tls},
    error::Result,
    fixture::{Fixture, VALIDATE},
    measured::Bound,
    process::Process,
    rounds::{Figures, Rounds},
};

const GROUP: &str = "tls";
const TOKENS: usize = 256;
/// How a connection of HTTP/2 begins (RFC 9113, section 3.4), with an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Clients that make handshakes one after the other.
const CLIENTS: usize = 8;

pub async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let connector = certificate(folder.path())?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (certificate, key) = (path("server.pem"), path("server.key"));
    let with_tls = Fixture::sqlite(&[
        ("COUNTERSIGN_TLS", "on"),
        ("COUNTERSIGN_TLS_CERT_FILE", &certificate),
        ("COUNTERSIGN_TLS_KEY_FILE", &key),
    ])?;
    let process = with_tls.start().await?;
    let client = Client::connect_tls(process.address, 4, &connector).await?;
    let secure = Side::with_client(process, client, VALIDATE);
    let secure_requests = in_turn(with_tls.mint().await?.requests(TOKENS)?);
    let plaintext = Fixture::sqlite(&[])?;
    let plain = Side::new(plaintext.start().await?, VALIDATE).await?;
    let plain_requests = in_turn(plaintext.mint().await?.requests(TOKENS)?);
    let duration = Duration::from_millis(bench.choose(350, 1_000));
    let rounds = bench.choose(5, 11);
    for streams in [16, 64] {
        let measured = Rounds::measure(
            rounds,
            async || secure.drive(&secure_requests, streams, duration).await,
            async || plain.drive(&plain_requests, streams, duration).await,
        )
        .await?;
        let mut line = |figure: usize, name: &str, bound| {
            let name = format!("ValidateToken over TLS: {name}, {streams} at once");
            let medians = measured.medians(figure);
            bench
                .report
                .compare(GROUP, &name, "plaintext", medians, bound);
        };
        line(0, "calls per second", None);
        line(2, "p99, us", None);
        line(3, "server's CPU per call, us", Some(Bound::AtMost(1.15)));
    }
    let bare = Process::tls(folder.path(), &certificate, &key).await?;
    let measured = Rounds::measure(
        rounds,
        async || handshakes(&secure.process, &connector, duration).await,
        async || handshakes(&bare, &connector, duration).await,
    )
    .await?;
    for (figure, name, bound) in [
        (0, "full handshakes per second", Bound::AtLeast(0.8)),
        (1, "server's CPU per handshake, us", Bound::AtMost(1.25)),
    ] {
        let medians = measured.medians(figure);
        bench
            .report
            .compare(GROUP, name, "bare rustls", medians, Some(bound));
    }
    Ok(())
}

/// Handshakes per second, and the server's CPU time for each.
async fn handshakes(
    server: &Process,
    connector: &TlsConnector,
    duration: Duration,
) -> Result<Figures> {
    let address = server.address;
    let before = server.cpu_time()?;
    let begin = countersign::clock::monotonic_now();
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let connector = connector.clone();
        clients.spawn(async move {
            let mut count = 0_u64;
            while begin.elapsed() < duration {
                let mut stream = tls(address, &connector).await?;
                stream.write_all(PREFACE).await?;
                // The server's first bytes: its part of the handshake is done, too.
                stream.read_u8().await?;
                count += 1;
            }
            Result::Ok(count)
        });
    }
    let mut count = 0;
    while let Some(done) = clients.join_next().await {
        count += done??;
    }
    let cpu = server.cpu_time()?.saturating_sub(before);
    Ok(vec![
        float(count) / begin.elapsed().as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / float(count),
    ])
}

/// Writes a certificate for the loopback address with its key, and makes a client that trusts it and resumes nothing.
fn certificate(folder: &Path) -> Result<TlsConnector> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.self_signed(&key)?;
    fs::write(folder.join("server.pem"), certificate.pem())?;
    fs::write(folder.join("server.key"), key.serialize_pem())?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::clone(certificate.der()))?;
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

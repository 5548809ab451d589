//! The server's certificate and its key: read as a pair, and refused where clients would refuse them.

use std::{path::Path, sync::Arc, time::Duration};

use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _,
    public_key::PublicKey,
};

use super::TlsError;
use crate::clock::Timestamp;

const CERTIFICATE: &str = "COUNTERSIGN_TLS_CERT_FILE";
const KEY: &str = "COUNTERSIGN_TLS_KEY_FILE";

/// The object identifier of Ed25519 keys (RFC 8410 section 3).
const ED25519: &str = "1.3.101.112";
/// With less than this left, a certificate is reported at every load.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// A certificate with its private key.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) key: Arc<CertifiedKey>,
    /// When the certificate expires.
    pub(super) not_after: Timestamp,
    /// What will not work with every client, or not for long.
    pub(super) warnings: Vec<&'static str>,
}

/// What the two files hold.
#[derive(Clone, Copy)]
pub(super) struct PairFiles<'a> {
    pub(super) certificate: (&'a Path, &'a [u8]),
    pub(super) key: (&'a Path, &'a [u8]),
}

impl Pair {
    /// Reads and checks the pair.
    ///
    /// # Errors
    /// A file is no PEM; the key is not that of the first certificate; that certificate is one of an authority, is not
    /// for servers, is not valid at `now`, or names no host.
    pub(super) fn read(
        files: PairFiles<'_>,
        provider: &CryptoProvider,
        now: Timestamp,
    ) -> Result<Self, TlsError> {
        let wrong_certificate =
            |problem: &str| TlsError::new(CERTIFICATE, files.certificate.0, problem);
        let wrong_key = |problem: &str| TlsError::new(KEY, files.key.0, problem);
        let chain = CertificateDer::pem_slice_iter(files.certificate.1)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| wrong_certificate("is not a PEM file"))?;
        let Some(leaf) = chain.first().cloned() else {
            return Err(wrong_certificate("holds no certificate"));
        };
        let key = PrivateKeyDer::from_pem_slice(files.key.1)
            .map_err(|_| wrong_key("holds no private key in PEM (PKCS #8, PKCS #1 or SEC 1)"))?;
        let (_, parsed) = X509Certificate::from_der(&leaf)
            .map_err(|_| wrong_certificate("holds a certificate that cannot be read"))?;
        check(&parsed, now).map_err(wrong_certificate)?;
        let not_after = Timestamp::from_seconds(parsed.validity().not_after.timestamp());
        let mut warnings = warnings(&parsed, chain.len());
        if not_after.since(now) < SOON {
            warnings.push("the certificate expires within 14 days");
        }
        let key = CertifiedKey::from_der(chain, key, provider).map_err(|_| {
            wrong_key("is not the key of the first certificate, or of a kind that TLS cannot use")
        })?;
        Ok(Self {
            key: Arc::new(key),
            not_after,
            warnings,
        })
    }
}

fn check(leaf: &X509Certificate<'_>, now: Timestamp) -> Result<(), &'static str> {
    if leaf.is_ca() {
        return Err("begins with the certificate of an authority; the server's must come first");
    }
    let for_servers = match leaf.extended_key_usage() {
        Ok(Some(usage)) => usage.value.server_auth || usage.value.any,
        Ok(None) => true,
        Err(_) => return Err("holds a certificate whose extensions cannot be read"),
    };
    if !for_servers {
        return Err("holds a certificate that is not for servers (extended key usage serverAuth)");
    }
    if now.seconds() < leaf.validity().not_before.timestamp() {
        return Err("holds a certificate that is not valid yet");
    }
    if now.seconds() >= leaf.validity().not_after.timestamp() {
        return Err("holds a certificate that has expired");
    }
    if !names(leaf, |name| {
        matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_))
    }) {
        return Err("holds a certificate without a host in its subject alternative names");
    }
    Ok(())
}

fn names(leaf: &X509Certificate<'_>, wanted: impl Fn(&GeneralName<'_>) -> bool) -> bool {
    let extension = leaf.subject_alternative_name().ok().flatten();
    extension.is_some_and(|extension| extension.value.general_names.iter().any(wanted))
}

fn warnings(leaf: &X509Certificate<'_>, chain_length: usize) -> Vec<&'static str> {
    let mut warnings = Vec::new();
    if leaf.public_key().algorithm.algorithm.to_id_string() == ED25519 {
        warnings.push("the key is Ed25519, which grpcio and Chromium refuse: use ECDSA P-256");
    }
    if let Ok(PublicKey::RSA(key)) = leaf.public_key().parsed()
        && key.key_size() > 2048
    {
        warnings.push("the RSA key has more than 2048 bits, which makes each handshake slow");
    }
    if chain_length == 1 && leaf.issuer() != leaf.subject() {
        warnings.push("the file has no intermediate certificate: clients need it unless they trust the issuer itself");
    }
    if !names(leaf, |name| matches!(name, GeneralName::DNSName(_))) {
        warnings.push("the certificate has no DNS name: clients that connect by name refuse it");
    }
    warnings
}

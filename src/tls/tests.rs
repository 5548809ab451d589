//! Which certificates and keys are refused, and which are accepted with a warning.

use std::{path::Path, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ED25519,
};
use rustls::crypto::aws_lc_rs;

use super::pair::{Pair, PairFiles};
use crate::clock::{Clock, Timestamp};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A certificate for `server.example.org`, signed by an authority, after `change`.
fn pair(change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    pair_of(&KeyPair::generate().unwrap(), change)
}

fn pair_of(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority
        .distinguished_name
        .push(rcgen::DnType::CommonName, "an authority");
    let authority = Issuer::new(authority, KeyPair::generate().unwrap());
    let mut params = CertificateParams::new(vec!["server.example.org".to_owned()]).unwrap();
    change(&mut params);
    let certificate = params.signed_by(key, &authority).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn read(certificate: &str, key: &str, now: Timestamp) -> Result<Pair, String> {
    let files = PairFiles {
        certificate: (Path::new("tls.crt"), certificate.as_bytes()),
        key: (Path::new("tls.key"), key.as_bytes()),
    };
    Pair::read(files, &aws_lc_rs::default_provider(), now).map_err(|error| error.to_string())
}

fn now() -> Timestamp {
    Clock::System.now()
}

#[test]
fn a_pair_that_clients_would_refuse_is_refused() {
    let refused = |(certificate, key): (String, String), why: &str| {
        let error = read(&certificate, &key, now()).unwrap_err();
        assert!(error.contains(why), "{error}");
        assert!(!error.contains("BEGIN"), "{error}");
    };
    let (good, key) = pair(|_| {});
    let (_, other_key) = pair(|_| {});
    refused(
        (good.clone(), other_key),
        "COUNTERSIGN_TLS_KEY_FILE: tls.key is not the key",
    );
    refused(
        (String::new(), key.clone()),
        "COUNTERSIGN_TLS_CERT_FILE: tls.crt holds no certificate",
    );
    refused((good.clone(), String::new()), "holds no private key");
    refused((good[..good.len() / 2].to_owned(), key.clone()), "tls.crt");
    refused(
        pair(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        "an authority",
    );
    let for_clients = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    };
    refused(pair(for_clients), "not for servers");
    refused(
        pair(|params| params.subject_alt_names.clear()),
        "without a host",
    );
    refused(
        pair(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1)),
        "expired",
    );
    refused(
        pair(|params| params.not_before = rcgen::date_time_ymd(2200, 1, 1)),
        "not valid yet",
    );
}

#[test]
fn certificates_that_some_clients_refuse_cause_a_warning() {
    let warned = |(certificate, key): (String, String), at: Timestamp, what: &str| {
        let warnings = read(&certificate, &key, at).unwrap().warnings;
        assert!(
            warnings.iter().any(|warning| warning.contains(what)),
            "{warnings:?}"
        );
    };
    let ed25519 = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    warned(pair_of(&ed25519, |_| {}), now(), "Ed25519");
    warned(pair(|_| {}), now(), "no intermediate");
    let address = |params: &mut CertificateParams| {
        params.subject_alt_names = vec![rcgen::SanType::IpAddress([127, 0, 0, 1].into())];
    };
    warned(pair(address), now(), "no DNS name");
    let year =
        |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2030, 1, 31);
    let (certificate, key) = pair(year);
    let end = read(&certificate, &key, now()).unwrap().not_after;
    assert!(
        read(&certificate, &key, end)
            .unwrap_err()
            .contains("expired")
    );
    warned((certificate, key), end - 10 * DAY, "expires within 14 days");
}

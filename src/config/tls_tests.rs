//! Which variables TLS in the process needs, and which need it.

use super::super::tests::{config, sources};

#[test]
fn tls_in_the_process_needs_its_files_and_files_need_tls() {
    const ON: (&str, &str) = ("COUNTERSIGN_TLS", "on");
    const CERTIFICATE: (&str, &str) = ("COUNTERSIGN_TLS_CERT_FILE", "tls.crt");
    const KEY_FILE: (&str, &str) = ("COUNTERSIGN_TLS_KEY_FILE", "tls.key");
    const AUTHORITIES: (&str, &str) = ("COUNTERSIGN_TLS_CLIENT_CA_FILE", "ca.crt");
    const REQUIRED: (&str, &str) = ("COUNTERSIGN_TLS_CLIENT_AUTH", "required");
    const VERIFIERS: (&str, &str) = (
        "COUNTERSIGN_TLS_VERIFIERS",
        "Gateway.example.org,spiffe://example.org/gateway",
    );
    assert_eq!(sources(&[ON]), [CERTIFICATE.0, KEY_FILE.0]);
    assert_eq!(sources(&[ON, CERTIFICATE]), [KEY_FILE.0]);
    for file in [CERTIFICATE, KEY_FILE, AUTHORITIES] {
        assert_eq!(sources(&[file]), [file.0]);
    }
    assert_eq!(
        sources(&[ON, CERTIFICATE, KEY_FILE, REQUIRED]),
        [REQUIRED.0]
    );
    assert_eq!(
        sources(&[ON, CERTIFICATE, KEY_FILE, VERIFIERS]),
        [VERIFIERS.0]
    );
    let files = |vars: &[_]| config(vars).unwrap().tls_files.unwrap();
    assert_eq!(files(&[ON, CERTIFICATE, KEY_FILE]).clients, None);
    let named = files(&[ON, CERTIFICATE, KEY_FILE, AUTHORITIES, VERIFIERS]).clients;
    assert_eq!(
        named.unwrap().verifiers,
        ["gateway.example.org", "spiffe://example.org/gateway"]
    );
    for (all, required) in [
        (vec![ON, CERTIFICATE, KEY_FILE, AUTHORITIES], false),
        (vec![ON, CERTIFICATE, KEY_FILE, AUTHORITIES, REQUIRED], true),
    ] {
        assert_eq!(files(&all).clients.unwrap().required, required);
    }
}

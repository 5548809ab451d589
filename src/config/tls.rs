//! Who encrypts the connections of both ports, and with which files.

use std::path::PathBuf;

use super::{
    problems::Problems,
    values::{ClientAuth, List, Tls},
    variables::Values,
};

/// The files with which the process itself encrypts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate of the server and the intermediate certificates, in PEM, the server's first.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
    /// What is asked of clients; `None`: nothing.
    pub clients: Option<TlsClients>,
}

/// What is asked of clients (mutual TLS).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsClients {
    /// The certificates of the authorities that sign client certificates, in PEM.
    pub authorities: PathBuf,
    /// Whether a client without a certificate is refused.
    pub required: bool,
    /// The names of certificates that may watch revocations: DNS names in lower case, and URIs.
    pub verifiers: Vec<String>,
}

/// The files, where the process itself encrypts.
pub(super) fn files(values: &Values, problems: &mut Problems) -> Option<TlsFiles> {
    const CERTIFICATE: &str = "COUNTERSIGN_TLS_CERT_FILE";
    const KEY: &str = "COUNTERSIGN_TLS_KEY_FILE";
    const CLIENT_CA: &str = "COUNTERSIGN_TLS_CLIENT_CA_FILE";
    const VERIFIERS: &str = "COUNTERSIGN_TLS_VERIFIERS";
    const CLIENT_AUTH: &str = "COUNTERSIGN_TLS_CLIENT_AUTH";
    let is_on = values.tls == Tls::On;
    let files = [
        (CERTIFICATE, &values.tls_cert_file),
        (KEY, &values.tls_key_file),
        (CLIENT_CA, &values.tls_client_ca_file),
    ];
    for (name, file) in files {
        problems.demand(
            &[name, "COUNTERSIGN_TLS"],
            is_on || file.is_none(),
            "it is not used, because COUNTERSIGN_TLS is not on",
            "set COUNTERSIGN_TLS=on, or leave it out",
        );
        problems.demand(
            &[name, "COUNTERSIGN_TLS"],
            !is_on || file.is_some() || name == CLIENT_CA,
            "it is not set, and COUNTERSIGN_TLS is on",
            "use the path of a PEM file",
        );
    }
    problems.demand(
        &[CLIENT_AUTH, CLIENT_CA],
        values.tls_client_auth.is_none() || values.tls_client_ca_file.is_some(),
        "no authority is named whose client certificates are accepted",
        "set COUNTERSIGN_TLS_CLIENT_CA_FILE as well",
    );
    problems.demand(
        &[VERIFIERS, CLIENT_CA],
        values.tls_verifiers.is_none() || values.tls_client_ca_file.is_some(),
        "no authority is named whose client certificates are accepted",
        "set COUNTERSIGN_TLS_CLIENT_CA_FILE as well",
    );
    let verifiers = values.tls_verifiers.clone();
    let clients = values
        .tls_client_ca_file
        .clone()
        .map(|authorities| TlsClients {
            authorities: authorities.0,
            required: values.tls_client_auth == Some(ClientAuth::Required),
            verifiers: verifiers.map_or_else(Vec::new, |List(names)| {
                names.into_iter().map(|name| name.0).collect()
            }),
        });
    Some(TlsFiles {
        certificate: values.tls_cert_file.clone().filter(|_| is_on)?.0,
        key: values.tls_key_file.clone()?.0,
        clients,
    })
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;

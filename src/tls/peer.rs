//! Who the client is, by its certificate.

use aws_lc_rs::digest::{SHA256, digest};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

use crate::clock::Timestamp;

/// The certificate of a client, checked against the accepted authorities. It is the client's own, never one further up
/// its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The DNS names and URIs among its subject alternative names.
    pub names: Vec<String>,
    /// The SHA-256 of its DER form: the `x5t#S256` of RFC 8705 section 3.1.
    pub sha256: [u8; 32],
    /// When it expires.
    pub not_after: Timestamp,
}

impl PeerCertificate {
    /// Reads a certificate in DER. `None` when it cannot be read.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let extension = parsed.subject_alternative_name().ok()?;
        let names = extension.map_or_else(Vec::new, |extension| {
            let names = extension.value.general_names.iter();
            names
                .filter_map(|name| match name {
                    GeneralName::DNSName(name) | GeneralName::URI(name) => Some((*name).to_owned()),
                    _ => None,
                })
                .collect()
        });
        Some(Self {
            names,
            sha256: digest(&SHA256, der).as_ref().try_into().ok()?,
            not_after: Timestamp::from_seconds(parsed.validity().not_after.timestamp()),
        })
    }
}

//! Who the client is, by its certificate.

use aws_lc_rs::digest::{SHA256, digest};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

use crate::clock::Timestamp;

/// The certificate of a client, checked against the accepted authorities. It is the client's own, never one further up
/// its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The DNS names among its subject alternative names.
    pub dns_names: Vec<String>,
    /// The URIs among them, such as a SPIFFE ID.
    pub uris: Vec<String>,
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
        let (mut dns_names, mut uris) = (Vec::new(), Vec::new());
        for name in extension.iter().flat_map(|e| &e.value.general_names) {
            match name {
                GeneralName::DNSName(name) => dns_names.push((*name).to_owned()),
                GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                _ => {}
            }
        }
        Some(Self {
            dns_names,
            uris,
            sha256: digest(&SHA256, der).as_ref().try_into().ok()?,
            not_after: Timestamp::from_seconds(parsed.validity().not_after.timestamp()),
        })
    }

    /// Whether it has this subject alternative name: a URI, exactly, or a DNS name, in any case. A wildcard stands for
    /// no name.
    pub fn has_name(&self, name: &str) -> bool {
        match name.contains("://") {
            true => self.uris.iter().any(|uri| uri == name),
            false => self
                .dns_names
                .iter()
                .any(|own| own.eq_ignore_ascii_case(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_compared_with_names_of_its_own_kind() {
        let certificate = PeerCertificate {
            dns_names: vec!["Gateway.example.org".to_owned(), "*.example.net".to_owned()],
            uris: vec!["spiffe://example.org/Gateway".to_owned()],
            sha256: [0; 32],
            not_after: Timestamp::from_seconds(0),
        };
        for (name, expected) in [
            ("gateway.example.org", true),
            ("spiffe://example.org/Gateway", true),
            ("spiffe://example.org/gateway", false),
            ("a.example.net", false),
            ("example.org", false),
        ] {
            assert_eq!(certificate.has_name(name), expected, "{name}");
        }
    }
}

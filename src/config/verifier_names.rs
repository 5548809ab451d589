//! Type of a variable: the name of a client certificate.

use http::Uri;
use serde::Deserialize;

use super::{addresses::is_label, refusal::Refusal};

/// A subject alternative name (RFC 5280 section 4.2.1.6): a DNS name, in lower case, or a SPIFFE ID as it is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct VerifierName(pub String);

impl TryFrom<String> for VerifierName {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        let text = text.trim();
        if is_spiffe_id(text) {
            return Ok(Self(text.to_owned()));
        }
        let name = text.to_ascii_lowercase();
        if is_dns_name(&name) {
            return Ok(Self(name));
        }
        Err(Refusal::of(
            text,
            "is not the name of a certificate",
            "use DNS names such as gateway.example.org, without *, or SPIFFE IDs such as spiffe://example.org/gateway",
        ))
    }
}

fn is_spiffe_id(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else {
        return false;
    };
    uri.scheme_str() == Some("spiffe")
        && uri
            .authority()
            .is_some_and(|authority| authority.as_str() == authority.host())
        && uri.query().is_none()
        && uri.path().len() > 1
}

fn is_dns_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_names_and_spiffe_ids() {
        let parse = |text: &str| {
            VerifierName::try_from(text.to_owned())
                .map(|name| name.0)
                .ok()
        };
        assert_eq!(
            parse(" Gateway.Example.org"),
            Some("gateway.example.org".to_owned())
        );
        let id = "spiffe://example.org/Gateway";
        assert_eq!(parse(id), Some(id.to_owned()));
        for text in [
            "",
            "*.example.org",
            "-a.example.org",
            "a..b",
            "https://example.org/gateway",
            "spiffe://example.org",
            "spiffe://example.org:8443/gateway",
            "spiffe://user@example.org/gateway",
            "spiffe://example.org/gateway?x",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}

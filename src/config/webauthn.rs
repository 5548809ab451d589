//! Passkeys: the name that they are made for, and the pages that may use them.

use http::Uri;
use serde::Deserialize;

use super::{problems::Problems, refusal::Refusal, values::List, variables::Values};

/// The relying party of WebAuthn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebauthnSettings {
    /// The RP id: a domain. Passkeys are made for it and are lost when it changes.
    pub rp_id: String,
    /// The origins whose pages may use the passkeys, as browsers write them.
    pub origins: Vec<String>,
}

/// An RP id: a domain as browsers write it (WebAuthn section 4, "RP ID").
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct RpId(pub String);

impl TryFrom<String> for RpId {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        const LONGEST_NAME: usize = 253;
        let text = text.trim();
        let labels: Vec<_> = text.split('.').collect();
        // The last label of an IP address is a number.
        let is_domain = text == "localhost"
            || labels.len() > 1
                && text.len() <= LONGEST_NAME
                && labels.iter().all(|label| is_label(label))
                && labels
                    .last()
                    .is_some_and(|last| last.bytes().any(|byte| byte.is_ascii_lowercase()));
        match is_domain {
            true => Ok(Self(text.to_owned())),
            false => Err(Refusal::of(
                text,
                "is not a domain",
                "use a domain such as example.com in lower case, without scheme and port, or localhost",
            )),
        }
    }
}

fn is_label(label: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&label.len())
        && label.bytes().all(is_letter)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// The relying party; browsers would refuse every ceremony where the two variables do not fit together.
pub(super) fn settings(values: &Values, problems: &mut Problems) -> WebauthnSettings {
    const VARIABLES: [&str; 2] = ["COUNTERSIGN_WEBAUTHN_ORIGINS", "COUNTERSIGN_WEBAUTHN_RP_ID"];
    let RpId(rp_id) = values.webauthn_rp_id.clone();
    let List(origins) = values.webauthn_origins.clone();
    let origins: Vec<_> = origins.into_iter().map(|origin| origin.0).collect();
    let hosts: Vec<_> = origins.iter().filter_map(|origin| host(origin)).collect();
    problems.demand(
        &VARIABLES,
        hosts.len() == origins.len() && hosts.iter().all(|(_, host)| belongs_to(host, &rp_id)),
        "the host of an origin is neither COUNTERSIGN_WEBAUTHN_RP_ID nor a subdomain of it",
        "use origins such as https://example.com or https://login.example.com for the RP id example.com",
    );
    problems.demand(
        &VARIABLES[..1],
        hosts
            .iter()
            .all(|(is_https, host)| *is_https || belongs_to(host, "localhost")),
        "browsers have passkeys for https and for http://localhost alone",
        "use https origins",
    );
    WebauthnSettings { rp_id, origins }
}

/// Whether the scheme of an origin is https, and its host.
fn host(origin: &str) -> Option<(bool, String)> {
    let uri: Uri = origin.parse().ok()?;
    let is_https = uri.scheme_str() == Some("https");
    Some((is_https, uri.host()?.to_owned()))
}

/// Whether `host` is `domain` or below it.
fn belongs_to(host: &str, domain: &str) -> bool {
    match host.strip_suffix(domain) {
        Some(rest) => rest.is_empty() || rest.ends_with('.'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::tests::{config, sources},
        *,
    };

    const RP_ID: &str = "COUNTERSIGN_WEBAUTHN_RP_ID";
    const ORIGINS: &str = "COUNTERSIGN_WEBAUTHN_ORIGINS";

    #[test]
    fn an_rp_id_is_a_domain_in_lower_case() {
        for text in [
            "localhost",
            "example.com",
            "a.b-c.example",
            "xn--bcher-kva.example",
        ] {
            assert_eq!(RpId::try_from(text.to_owned()).unwrap().0, text);
        }
        for text in [
            "",
            "com",
            "Example.com",
            "https://example.com",
            "example.com:443",
            "example.com.",
            ".example.com",
            "a..example",
            "-a.example",
            "127.0.0.1",
            "[::1]",
            "*.example.com",
            "bücher.example",
        ] {
            assert!(RpId::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn the_rp_id_is_the_host_of_each_origin_or_a_suffix_of_it() {
        let default = config(&[]).unwrap().webauthn;
        assert_eq!(default.rp_id, "localhost");
        assert_eq!(default.origins, ["http://localhost:5173"]);
        let given = |origins| sources(&[(RP_ID, "example.com"), (ORIGINS, origins)]);
        for origins in [
            "https://example.com",
            "https://login.example.com:8443,https://example.com",
        ] {
            assert_eq!(given(origins), [""; 0], "{origins}");
        }
        for origins in [
            "https://example.org",
            "https://badexample.com",
            "https://example.com.evil.example",
            "https://example.com,https://com",
            "http://login.example.com",
            "http://localhost:5173",
            "https://*.example.com",
            "https://example.com/page",
        ] {
            assert_eq!(given(origins), [ORIGINS], "{origins}");
        }
        // The RP id alone: the default origin does not belong to it.
        assert_eq!(sources(&[(RP_ID, "example.com")]), [ORIGINS]);
        assert_eq!(sources(&[(RP_ID, "127.0.0.1")]), [RP_ID]);
        assert_eq!(sources(&[(ORIGINS, "http://app.localhost:3000")]), [""; 0]);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,80}") {
            let _ = RpId::try_from(text);
        }
    }
}

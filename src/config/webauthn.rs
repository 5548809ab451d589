//! Passkeys: the name that they are made for, and the pages that may use them.

use http::Uri;

use super::{addresses::RpId, problems::Problems, values::List, variables::Values};

/// The relying party of WebAuthn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebauthnSettings {
    /// The RP id: a domain. Passkeys are made for it and are lost when it changes.
    pub rp_id: String,
    /// The origins whose pages may use the passkeys, as browsers write them.
    pub origins: Vec<String>,
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
        "browsers support passkeys only for https and http://localhost",
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
    use super::super::tests::{config, sources};

    const RP_ID: &str = "COUNTERSIGN_WEBAUTHN_RP_ID";
    const ORIGINS: &str = "COUNTERSIGN_WEBAUTHN_ORIGINS";

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
}

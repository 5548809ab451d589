//! Types of variables: addresses to listen on, networks, URLs. Each reads itself from text, through serde.

use std::net::{IpAddr, SocketAddr};

use http::Uri;
use ipnet::IpNet;
use serde::Deserialize;

use super::{refusal::Refusal, values::List};

/// An address to listen on.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Address(pub SocketAddr);

impl TryFrom<String> for Address {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        text.parse().map(Self).map_err(|_| {
            let hint = "use IP:PORT, such as 127.0.0.1:50051, 0.0.0.0:50051 or [::]:50051";
            Refusal::of(&text, "is not an IP address with a port", hint)
        })
    }
}

/// An address to listen on, or nothing: then the server behind it is off.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct OptionalAddress(pub Option<SocketAddr>);

impl TryFrom<String> for OptionalAddress {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        Some(text)
            .filter(|text| !text.is_empty())
            .map(Address::try_from)
            .transpose()
            .map(|address| Self(address.map(|Address(address)| address)))
    }
}

/// The networks of proxies whose `x-forwarded-for` is believed; the word `none` is the empty list.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "List<String>")]
pub(super) struct TrustedProxies(pub Vec<IpNet>);

impl TryFrom<List<String>> for TrustedProxies {
    type Error = Refusal;

    fn try_from(List(entries): List<String>) -> Result<Self, Refusal> {
        let entries: Vec<_> = entries.iter().map(|entry| entry.trim()).collect();
        if entries == ["none"] {
            return Ok(Self(Vec::new()));
        }
        let networks: Result<Vec<_>, _> = entries.into_iter().map(network).collect();
        networks
            .and_then(List::try_from)
            .map(|List(networks)| Self(networks))
    }
}

/// A network in CIDR notation, or a single address; bits beyond the prefix are dropped.
fn network(text: &str) -> Result<IpNet, Refusal> {
    let single = || text.parse::<IpAddr>().ok().map(IpNet::from);
    let network = text.parse::<IpNet>().ok().or_else(single);
    network.map(|network| network.trunc()).ok_or_else(|| {
        let hint = "use networks such as 10.0.0.0/8, 192.168.1.7 or fd00::/8, or the word none";
        Refusal::of(text, "is not a network", hint)
    })
}

/// The origin of a page, as browsers write it in `Origin` (RFC 6454 section 6.2): scheme, host in lower case, and the port
/// unless it is that of the scheme. Compared byte by byte.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Origin(pub String);

impl TryFrom<String> for Origin {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        let text = text.trim();
        match text.parse::<Uri>() {
            Ok(uri) if is_web_url(&uri) && written_by_a_browser(&uri).as_deref() == Some(text) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(Refusal::of(
                text,
                "is not an origin",
                "use exact origins such as https://app.example.com or http://localhost:5173, without path, * and default port",
            )),
        }
    }
}

fn written_by_a_browser(uri: &Uri) -> Option<String> {
    let scheme = uri.scheme_str()?;
    let host = uri.host()?.to_ascii_lowercase();
    Some(match (scheme, uri.port_u16()) {
        (_, None) | ("http", Some(80)) | ("https", Some(443)) => format!("{scheme}://{host}"),
        (_, Some(port)) => format!("{scheme}://{host}:{port}"),
    })
    .filter(|_| !host.contains('*'))
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

/// A label of a domain in lower case: letters, digits and hyphens (RFC 1123 section 2.1).
pub(super) fn is_label(label: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&label.len())
        && label.bytes().all(is_letter)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// An issuer identifier: an `http` or `https` URL without query and fragment (RFC 8414 section 2).
/// Kept as it is written, because verifiers compare it byte by byte.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Issuer(pub String);

impl TryFrom<String> for Issuer {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        let hint =
            "use an https URL (outside production also http) without user, query and fragment";
        match text.parse::<Uri>() {
            Ok(uri) if is_web_url(&uri) && !text.contains(['?', '#', '@']) => Ok(Self(text)),
            // There may be a password in it.
            _ if text.contains('@') => Err(Refusal::new("the URL names a user", hint)),
            _ => Err(Refusal::of(&text, "is not an issuer", hint)),
        }
    }
}

/// The URL of an OTLP collector. TLS towards it is not supported.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Collector(pub String);

impl TryFrom<String> for Collector {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        let hint =
            "use an http URL such as http://localhost:4317 (for https, put a collector in between)";
        match text.parse::<Uri>() {
            Ok(uri) if is_web_url(&uri) && uri.scheme_str() == Some("http") => Ok(Self(text)),
            // There may be a password in it.
            _ => Err(Refusal::new("it is not a plain http URL", hint)),
        }
    }
}

fn is_web_url(uri: &Uri) -> bool {
    matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.host().is_some_and(|host| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse<T: TryFrom<String, Error = Refusal>>(text: &str) -> Result<T, Refusal> {
        T::try_from(text.to_owned())
    }

    fn networks(text: &str) -> Result<Vec<IpNet>, String> {
        #[derive(Deserialize)]
        struct One {
            it: TrustedProxies,
        }
        let vars = [("it".to_owned(), text.to_owned())];
        envy::from_iter(vars)
            .map(|one: One| one.it.0)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn trusted_proxies_are_networks_addresses_or_the_word_none() {
        let shown: Vec<_> = networks("10.1.2.3/8, 192.168.1.7,fd00::/8")
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(shown, ["10.0.0.0/8", "192.168.1.7/32", "fd00::/8"]);
        assert!(networks("none").unwrap().is_empty());
        for text in [
            "10.0.0.0/33",
            "localhost",
            "10.0.0.0/8,",
            ",",
            "none,10.0.0.0/8",
        ] {
            assert!(networks(text).is_err(), "{text}");
        }
        // The same network written in two ways.
        let twice = networks("10.0.0.0/8,10.9.9.9/8").unwrap_err();
        assert_eq!(twice, "entry 2 repeats an earlier one; list each only once");
    }

    #[test]
    fn issuers_are_urls_without_user_query_and_fragment() {
        for text in ["http://localhost:50051", "https://auth.example.org/realm"] {
            assert_eq!(parse::<Issuer>(text).unwrap().0, text);
        }
        for text in [
            "localhost",
            "ftp://a",
            "https://",
            "https://a?b",
            "https://a#b",
            "https:///a",
            "/a",
            "*",
        ] {
            assert!(parse::<Issuer>(text).is_err(), "{text}");
        }
        let refusal = parse::<Issuer>("https://ada:hunter2@a.example").unwrap_err();
        assert!(!format!("{refusal:?}").contains("hunter2"));
    }

    #[test]
    fn origins_are_written_as_browsers_write_them() {
        for text in [
            "https://app.example.com",
            "http://localhost:5173",
            "https://[::1]:8443",
        ] {
            assert_eq!(parse::<Origin>(text).unwrap().0, text);
        }
        for text in [
            "",
            "*",
            "null",
            "app.example.com",
            "https://*.example.com",
            "https://App.example.com",
            "https://app.example.com/",
            "https://app.example.com/path",
            "https://app.example.com:443",
            "http://localhost:80",
            "https://app.example.com?a",
            "https://ada@app.example.com",
            "file:///page.html",
        ] {
            assert!(parse::<Origin>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_rp_id_is_a_domain_in_lower_case() {
        for text in [
            "localhost",
            "example.com",
            "a.b-c.example",
            "xn--bcher-kva.example",
        ] {
            assert_eq!(parse::<RpId>(text).unwrap().0, text);
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
            assert!(parse::<RpId>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_collector_without_plain_http_is_refused() {
        assert!(parse::<Collector>("http://localhost:4317").is_ok());
        assert!(parse::<Collector>("https://user:hunter2@collector:4317").is_err());
        assert!(parse::<Collector>("localhost:4317").is_err());
    }

    #[test]
    fn a_long_value_is_not_repeated_in_full() {
        let refusal = parse::<Address>(&"x".repeat(1_000_000)).unwrap_err();
        assert!(refusal.to_string().len() < 200);
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in any::<String>()) {
            let _ = (parse::<Address>(&text), networks(&text));
            let _ = (parse::<Issuer>(&text), parse::<Collector>(&text), parse::<Origin>(&text));
            let _ = parse::<RpId>(&text);
        }

        #[test]
        fn near_misses_make_no_parser_panic(
            url in "https?://[a-z@:/?#\\[\\]0-9]{0,20}",
            net in "[0-9a-f.:]{0,20}/?[0-9]{0,3}",
        ) {
            let _ = (parse::<Issuer>(&url), parse::<Collector>(&url), parse::<Origin>(&url));
            let _ = (networks(&net), parse::<Address>(&net));
        }

        #[test]
        fn refusals_are_one_line(text in any::<String>()) {
            if let Err(refusal) = parse::<Address>(&text) {
                prop_assert!(!refusal.to_string().contains('\n'));
            }
        }
    }
}

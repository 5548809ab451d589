//! From the text of a variable to its value; each parser says what it would have accepted.

use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    ops::RangeInclusive,
    str::FromStr,
    time::Duration,
};

use http::Uri;
use ipnet::IpNet;
use tracing_subscriber::EnvFilter;

/// Why a value was not accepted. Neither text may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// What is wrong with it.
    pub wrong: String,
    /// What would have been right.
    pub allowed: String,
}

impl Refusal {
    pub fn new(wrong: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self {
            wrong: wrong.into(),
            allowed: allowed.into(),
        }
    }

    /// Says that `text`, which is no secret, is not what it should be.
    fn of(text: &str, not: &str, allowed: impl Into<String>) -> Self {
        let start: String = text.chars().take(60).collect();
        let more = if start.len() < text.len() { "…" } else { "" };
        Self::new(format!("{start:?}{more} is not {not}"), allowed)
    }
}

/// A whole number within `range`.
pub(super) fn number<T: FromStr + PartialOrd + Display>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, Refusal> {
    move |text| {
        text.parse()
            .ok()
            .filter(|value| range.contains(value))
            .ok_or_else(|| {
                let allowed = format!("a whole number from {} to {}", range.start(), range.end());
                Refusal::of(text, "in range", allowed)
            })
    }
}

/// A span of time such as `15m` or `1h 30m`, within `range`.
pub(super) fn duration(
    range: RangeInclusive<Duration>,
) -> impl Fn(&str) -> Result<Duration, Refusal> {
    // humantime 2.4 overflows, and panics, on texts that add up to just over u64::MAX seconds;
    // those take more characters than this, and no sensible span does.
    const MAX_BYTES: usize = 24;
    move |text| {
        let parsed = Some(text)
            .filter(|text| text.len() <= MAX_BYTES)
            .and_then(|text| humantime::parse_duration(text).ok());
        parsed.filter(|value| range.contains(value)).ok_or_else(|| {
            let allowed = format!(
                "a duration with its unit, such as 30s, 15m, 12h or 7d, from {} to {}",
                humantime::format_duration(*range.start()),
                humantime::format_duration(*range.end()),
            );
            Refusal::of(text, "in range", allowed)
        })
    }
}

/// One of a few words.
pub(super) fn choice<T: Copy>(
    choices: &'static [(&'static str, T)],
) -> impl Fn(&str) -> Result<T, Refusal> {
    move |text| {
        let found = choices.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            Refusal::of(text, "known", words.join(", "))
        })
    }
}

/// `on` or `off`; `true` and `false` mean the same.
pub(super) fn switch(text: &str) -> Result<bool, Refusal> {
    choice(&[
        ("on", true),
        ("off", false),
        ("true", true),
        ("false", false),
    ])(text)
}

/// A whole number from 1 to `max`.
pub(super) fn count(max: usize) -> impl Fn(&str) -> Result<NonZeroUsize, Refusal> {
    move |text| number(1..=max)(text).map(|n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN))
}

/// An address to listen on.
pub(super) fn socket_addr(text: &str) -> Result<SocketAddr, Refusal> {
    text.parse().map_err(|_| {
        Refusal::of(
            text,
            "an IP address with a port",
            "IP:PORT, such as 127.0.0.1:50051, 0.0.0.0:50051 or [::]:50051",
        )
    })
}

/// A comma-separated list, each part parsed by `part`; never empty, blanks around parts ignored.
pub(super) fn list<T: PartialEq>(
    part: impl Fn(&str) -> Result<T, Refusal>,
) -> impl Fn(&str) -> Result<Vec<T>, Refusal> {
    move |text| {
        let mut values = Vec::new();
        for one in text.split(',') {
            let value = part(one.trim())?;
            if values.contains(&value) {
                return Err(Refusal::of(
                    one.trim(),
                    "new: it is listed twice",
                    "each only once",
                ));
            }
            values.push(value);
        }
        Ok(values)
    }
}

/// A network in CIDR notation, or a single address; bits beyond the prefix are dropped.
pub(super) fn network(text: &str) -> Result<IpNet, Refusal> {
    let single = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse::<IpNet>()
        .ok()
        .or_else(single)
        .map(|network| network.trunc())
        .ok_or_else(|| {
            Refusal::of(
                text,
                "a network",
                "networks such as 10.0.0.0/8, 192.168.1.7 or fd00::/8",
            )
        })
}

/// A name that goes into a claim: visible ASCII, at most 256 characters.
pub(super) fn claim_name(text: &str) -> Result<String, Refusal> {
    if (1..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        let allowed = "1 to 256 visible ASCII characters without spaces";
        Err(Refusal::of(text, "a name", allowed))
    }
}

/// An issuer identifier: an `http` or `https` URL without query and fragment (RFC 8414 section 2).
/// It is kept to the letter, for whoever verifies a token compares it so.
pub(super) fn issuer(text: &str) -> Result<String, Refusal> {
    let allowed = "an https (outside production also http) URL without user, query and fragment";
    match text.parse::<Uri>() {
        Ok(uri) if is_web_url(&uri) && !text.contains(['?', '#', '@']) => Ok(text.to_owned()),
        // Someone may have written a password into it.
        _ if text.contains('@') => Err(Refusal::new("it names a user", allowed)),
        _ => Err(Refusal::of(text, "an issuer", allowed)),
    }
}

/// Where an OTLP collector listens. There is no TLS towards it yet.
pub(super) fn collector(text: &str) -> Result<String, Refusal> {
    let allowed = "an http URL such as http://localhost:4317; for https put a collector in between";
    match text.parse::<Uri>() {
        Ok(uri) if is_web_url(&uri) && uri.scheme_str() == Some("http") => Ok(text.to_owned()),
        _ => Err(Refusal::new("it is not a plain http URL", allowed)),
    }
}

fn is_web_url(uri: &Uri) -> bool {
    matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.host().is_some_and(|host| !host.is_empty())
}

/// What to log. Kept as text, for a filter cannot be cloned.
pub(super) fn log_filter(text: &str) -> Result<String, Refusal> {
    let visible = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if visible && EnvFilter::builder().parse(text).is_ok() {
        Ok(text.to_owned())
    } else {
        let allowed = "off, error, warn, info, debug, trace, or directives such as \
                       info,countersign=debug";
        Err(Refusal::of(text, "a log filter", allowed))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    #[test]
    fn numbers_stay_in_their_range() {
        let parse = number(1..=10_u32);
        assert_eq!(parse("10"), Ok(10));
        for text in ["0", "11", "-1", "1.5", "ten", "4294967297", "0x1", "1 "] {
            let refusal = parse(text).unwrap_err();
            assert_eq!(refusal.allowed, "a whole number from 1 to 10");
            assert!(refusal.wrong.contains(text), "{refusal:?}");
        }
    }

    #[test]
    fn durations_carry_their_unit() {
        let parse = duration(Duration::ZERO..=DAY);
        assert_eq!(parse("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(parse("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
        // The last one would make humantime panic.
        for text in [
            "15",
            "-1s",
            "1 fortnight",
            "2d",
            "18446744073709551615s1000ms",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks_are_cidr_or_single_addresses() {
        let parse = list(network);
        let networks = parse("10.1.2.3/8, 192.168.1.7,fd00::/8").unwrap();
        let shown: Vec<_> = networks.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.0/8", "192.168.1.7/32", "fd00::/8"]);
        for text in [
            "10.0.0.0/33",
            "localhost",
            "10.0.0.0/8,",
            ",",
            "10.0.0.0/8,10.9.9.9/8",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn issuers_are_plain_urls() {
        for text in ["http://localhost:50051", "https://auth.example.org/realm"] {
            assert_eq!(issuer(text).as_deref(), Ok(text));
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
            assert!(issuer(text).is_err(), "{text}");
        }
        let refusal = issuer("https://ada:hunter2@a.example").unwrap_err();
        assert!(!format!("{refusal:?}").contains("hunter2"));
    }

    #[test]
    fn a_collector_needs_plain_http_for_now() {
        assert!(collector("http://localhost:4317").is_ok());
        assert!(collector("https://user:hunter2@collector:4317").is_err());
        assert!(collector("localhost:4317").is_err());
    }

    #[test]
    fn log_filters_are_checked() {
        for text in [
            "info",
            "off",
            "warn,countersign=debug",
            "countersign::request=trace",
        ] {
            assert!(log_filter(text).is_ok(), "{text}");
        }
        for text in ["info=maybe=not", "countersign=loud", "a\u{7}"] {
            assert!(log_filter(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_long_value_is_not_repeated_in_full() {
        let refusal = switch(&"x".repeat(1_000_000)).unwrap_err();
        assert!(refusal.wrong.len() < 100);
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in any::<String>()) {
            let _ = (number(1..=u16::MAX)(&text), duration(Duration::ZERO..=DAY)(&text));
            let _ = (switch(&text), socket_addr(&text), list(network)(&text), claim_name(&text));
            let _ = (issuer(&text), collector(&text), log_filter(&text));
        }

        #[test]
        fn near_misses_make_no_parser_panic(
            time in "[0-9]{1,20}(ns|us|ms|s|m|h|d|w|y)( ?[0-9]{1,4}(ms|s))?",
            url in "https?://[a-z@:/?#\\[\\]0-9]{0,20}",
            net in "[0-9a-f.:]{0,20}/?[0-9]{0,3}",
            filter in "[a-z:=,\\[\\]{}\"]{0,30}",
        ) {
            let _ = (duration(Duration::ZERO..=DAY)(&time), issuer(&url), collector(&url));
            let _ = (list(network)(&net), socket_addr(&net), log_filter(&filter));
        }

        #[test]
        fn refusals_are_one_line(text in any::<String>()) {
            if let Err(refusal) = switch(&text) {
                prop_assert!(!refusal.wrong.contains('\n'));
            }
        }
    }
}

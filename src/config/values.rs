//! Types of variables: numbers, durations, words, lists, names. Each reads itself from text, through serde, and says what it would have accepted.

use std::{path::PathBuf, str::FromStr, time::Duration};

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use super::{duration::duration_text, refusal::Refusal};

/// Units of [`Span`]'s bounds, in milliseconds.
pub(super) const MILLISECOND: u64 = 1;
pub(super) const SECOND: u64 = 1_000;
pub(super) const MINUTE: u64 = 60 * SECOND;
pub(super) const HOUR: u64 = 60 * MINUTE;
pub(super) const DAY: u64 = 24 * HOUR;
/// No session should live longer, and no sum of two such spans overflows.
pub(super) const TEN_YEARS: u64 = 3_650 * DAY;

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String", bound = "T: FromStr")]
pub(super) struct Whole<T, const MIN: u64, const MAX: u64>(pub T);

impl<T: FromStr, const MIN: u64, const MAX: u64> TryFrom<String> for Whole<T, MIN, MAX> {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        let hint = || format!("use a whole number from {MIN} to {MAX}");
        let Ok(number) = text.parse::<u64>() else {
            return Err(Refusal::of(&text, "is not a whole number", hint()));
        };
        Some(text.as_str())
            .filter(|_| (MIN..=MAX).contains(&number))
            .and_then(|text| text.parse().ok())
            .map(Self)
            .ok_or_else(|| Refusal::of(&text, "is out of range", hint()))
    }
}

/// A span of time such as `15m` or `1h 30m`, from `MIN` to `MAX` milliseconds.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Span<const MIN: u64, const MAX: u64>(pub Duration);

impl<const MIN: u64, const MAX: u64> TryFrom<String> for Span<MIN, MAX> {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        // humantime 2.4 panics on texts that add up to just over u64::MAX seconds. Those are longer
        // than this, and no sensible duration is.
        const MAX_BYTES: usize = 24;
        let bounds = [MIN, MAX].map(Duration::from_millis);
        let hint = || {
            let [min, max] = bounds.map(duration_text);
            format!("use a number with its unit, such as 30s, 15m, 12h or 7d, from {min} to {max}")
        };
        let parsed = Some(text.as_str())
            .filter(|text| text.len() <= MAX_BYTES)
            .and_then(|text| humantime::parse_duration(text).ok());
        match parsed {
            Some(span) if (bounds[0]..=bounds[1]).contains(&span) => Ok(Self(span)),
            Some(_) => Err(Refusal::of(&text, "is out of range", hint())),
            None => Err(Refusal::of(&text, "is not a duration", hint())),
        }
    }
}

/// `on` or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) enum Switch {
    On,
    Off,
}

/// What production demands of a database on another machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) enum DatabaseTls {
    /// That it proves who it is.
    Verified,
    /// Nothing: the network is trusted.
    Unverified,
}

/// What signs new access tokens.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) enum Algorithm {
    EdDsa,
    Es256,
    Rs256,
}

/// The size of an RSA key.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) enum RsaKeyBits {
    Bits2048,
    Bits3072,
}

/// Who may register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Registration {
    /// Everybody; the response reveals that an address is taken.
    Open,
    /// Nobody: administrators and the command line create users.
    Closed,
    /// Everybody, but no login succeeds before the address is verified, and no response reveals that an address is taken.
    Verified,
}

/// What `ValidateToken` does when its knowledge of revocations is too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum StalePolicy {
    /// Answer from what is known.
    Serve,
    /// Answer `REVOCATION_STATE_STALE`.
    Reject,
}

/// Who encrypts the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Tls {
    /// Nobody: plain text, for development.
    Off,
    /// This process, on both ports.
    On,
    /// A mesh or gateway in front of the service.
    Terminated,
}

/// Whether a client must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) enum ClientAuth {
    /// It may.
    Optional,
    /// It must.
    Required,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// For machines: one JSON object a line.
    Json,
}

/// A comma-separated list of distinct entries. envy splits it and leaves blanks around the entries.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Vec<T>", bound = "T: Deserialize<'de> + PartialEq")]
pub(super) struct List<T>(pub Vec<T>);

impl<T: PartialEq> TryFrom<Vec<T>> for List<T> {
    type Error = Refusal;

    fn try_from(entries: Vec<T>) -> Result<Self, Refusal> {
        match (1..entries.len()).find(|&at| entries[..at].contains(&entries[at])) {
            Some(at) => Err(Refusal::new(
                format!("entry {} repeats an earlier one", at + 1),
                "list each only once",
            )),
            None => Ok(Self(entries)),
        }
    }
}

/// The path of a file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct FilePath(pub PathBuf);

impl TryFrom<String> for FilePath {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        if text.chars().any(char::is_control) {
            return Err(Refusal::of(
                &text,
                "is not a path",
                "use the path of a file",
            ));
        }
        Ok(Self(text.into()))
    }
}

/// A name that goes into a claim: visible ASCII, at most 256 characters.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct ClaimName(pub String);

impl TryFrom<String> for ClaimName {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        let text = text.trim();
        if (1..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(Self(text.to_owned()));
        }
        let hint = "use 1 to 256 visible ASCII characters without spaces";
        Err(Refusal::of(text, "is not a name", hint))
    }
}

/// Directives of an [`EnvFilter`]. Kept as text, because a filter cannot be cloned.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct LogFilter(pub String);

impl TryFrom<String> for LogFilter {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        let visible = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if visible && EnvFilter::builder().parse(&text).is_ok() {
            return Ok(Self(text));
        }
        let hint = "use off, error, warn, info, debug, trace, or directives such as \
                    info,countersign=debug";
        Err(Refusal::of(&text, "is not a log filter", hint))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse<T: TryFrom<String, Error = Refusal>>(text: &str) -> Result<T, Refusal> {
        T::try_from(text.to_owned())
    }

    #[test]
    fn numbers_outside_their_range_are_refused() {
        assert_eq!(parse::<Whole<u32, 1, 10>>("10").unwrap().0, 10);
        for text in ["0", "11", "-1", "1.5", "ten", "4294967297", "0x1", "1 "] {
            let refusal = parse::<Whole<u32, 1, 10>>(text).unwrap_err().to_string();
            assert!(
                refusal.ends_with("; use a whole number from 1 to 10"),
                "{refusal}"
            );
            assert!(refusal.starts_with(&format!("{text:?} is ")), "{refusal}");
        }
        // Too large for the type although within the bounds.
        assert!(parse::<Whole<u8, 0, 1000>>("256").is_err());
    }

    #[test]
    fn durations_need_a_unit_and_keep_to_their_range() {
        type UpToADay = Span<0, DAY>;
        assert_eq!(
            parse::<UpToADay>("15m").unwrap().0,
            Duration::from_secs(900)
        );
        assert_eq!(
            parse::<UpToADay>("1h 30m").unwrap().0,
            Duration::from_secs(5400)
        );
        assert_eq!(parse::<UpToADay>("0s").unwrap().0, Duration::ZERO);
        // The last one is longer than any duration that is read: longer texts never reach humantime.
        for text in [
            "15",
            "-1s",
            "1 fortnight",
            "2d",
            "1h 1m 1s 1ms 1us 1ns 1h 1m",
        ] {
            assert!(parse::<UpToADay>(text).is_err(), "{text}");
        }
        assert_eq!(
            parse::<UpToADay>("2d").unwrap_err().to_string(),
            "\"2d\" is out of range; use a number with its unit, such as 30s, 15m, 12h or 7d, \
             from 0s to 1d"
        );
    }

    #[test]
    fn malformed_log_filters_are_refused() {
        for text in [
            "info",
            "off",
            "warn,countersign=debug",
            "countersign::request=trace",
        ] {
            assert!(parse::<LogFilter>(text).is_ok(), "{text}");
        }
        for text in ["info=maybe=not", "countersign=loud", "a\u{7}"] {
            assert!(parse::<LogFilter>(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in any::<String>()) {
            let _ = (parse::<Whole<u16, 1, 70_000>>(&text), parse::<Span<0, DAY>>(&text));
            let _ = (parse::<ClaimName>(&text), parse::<LogFilter>(&text));
        }

        #[test]
        fn near_misses_make_no_parser_panic(
            time in "[0-9]{1,20}(ns|us|ms|s|m|h|d|w|y)( ?[0-9]{1,4}(ms|s))?",
            filter in "[a-z:=,\\[\\]{}\"]{0,30}",
        ) {
            let _ = (parse::<Span<0, DAY>>(&time), parse::<LogFilter>(&filter));
        }
    }
}

//! Times as other systems write them.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::clock::Timestamp;

/// RFC 3339 in UTC, such as `2020-01-31T08:30:00.123Z`; not before 1970.
pub(super) fn rfc3339(text: &str) -> Option<Timestamp> {
    // humantime accepts a point without digits.
    let is_whole = !text.contains(".Z") && !text.contains(".+");
    let time = is_whole.then(|| humantime::parse_rfc3339(text).ok());
    time.flatten().and_then(timestamp)
}

/// The same, perhaps with a blank instead of the `T` and without the `Z`: as Django and WordPress write it, in UTC.
pub(super) fn loose(text: &str) -> Option<Timestamp> {
    // humantime takes any offset behind a fraction for UTC.
    let is_utc = !text.contains('+') || text.ends_with("+00:00");
    let time = is_utc.then(|| humantime::parse_rfc3339_weak(text).ok());
    time.flatten().and_then(timestamp)
}

/// Milliseconds since the Unix epoch; not before it.
pub(super) fn millis(millis: i64) -> Option<Timestamp> {
    (millis >= 0).then(|| Timestamp::from_micros(millis.saturating_mul(1_000)))
}

fn timestamp(time: SystemTime) -> Option<Timestamp> {
    let since_epoch = time.duration_since(UNIX_EPOCH).ok()?;
    Some(Timestamp::default() + since_epoch)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_of_every_system_are_read() {
        let expected = Some(Timestamp::from_seconds(1_580_459_400));
        assert_eq!(rfc3339("2020-01-31T08:30:00Z"), expected);
        assert_eq!(loose("2020-01-31 08:30:00"), expected);
        assert_eq!(loose("2020-01-31T08:30:00.000Z"), expected);
        assert_eq!(millis(1_580_459_400_000), expected);
        assert_eq!(
            rfc3339("2020-01-31T08:30:00.5Z"),
            Some(Timestamp::from_micros(1_580_459_400_500_000))
        );
    }

    #[test]
    fn text_that_is_no_time_is_not_read() {
        for text in [
            "",
            "0000-00-00 00:00:00",
            "2020-13-01T00:00:00Z",
            "1580459400",
            "2020-01-31T08:30:00.5+02:00",
        ] {
            assert_eq!((rfc3339(text), loose(text)), (None, None), "{text}");
        }
        assert_eq!(millis(-1), None);
        for text in [
            "2020-01-31 08:30:00Z",
            "2020-01-31T08:30:00",
            "2020-01-31T08:30:00.Z",
            "2020-01-31T08:30:00.+00:00",
        ] {
            assert_eq!(rfc3339(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_reader_panic(text in "[0-9TZ :.+-]{0,40}|\\PC{0,30}") {
            let _ = (rfc3339(&text), loose(&text));
        }
    }
}

//! Durations as the variables take them: `15m`, `7d`, `1h 30m`.

use std::time::Duration;

/// Units of at least a second, in seconds.
const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];

/// The duration in the units of the variables, to the millisecond.
pub fn duration_text(duration: Duration) -> String {
    let mut left = duration.as_secs();
    let mut parts = Vec::new();
    for (seconds, unit) in UNITS {
        let count = left / seconds;
        left %= seconds;
        if count > 0 {
            parts.push(format!("{count}{unit}"));
        }
    }
    if duration.subsec_millis() > 0 {
        parts.push(format!("{}ms", duration.subsec_millis()));
    }
    match parts.is_empty() {
        true => "0s".to_owned(),
        false => parts.join(" "),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_units_are_those_of_the_variables() {
        for (milliseconds, text) in [
            (0, "0s"),
            (250, "250ms"),
            (900_000, "15m"),
            (5_400_000, "1h 30m"),
            (604_800_000, "7d"),
            (3_650 * 86_400_000, "3650d"),
            (90_061_001, "1d 1h 1m 1s 1ms"),
        ] {
            assert_eq!(duration_text(Duration::from_millis(milliseconds)), text);
        }
    }

    proptest! {
        #[test]
        fn the_text_is_read_back(milliseconds in 0_u64..1_000_000_000_000) {
            let duration = Duration::from_millis(milliseconds);
            prop_assert_eq!(humantime::parse_duration(&duration_text(duration)).unwrap(), duration);
        }
    }
}

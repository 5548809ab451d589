//! The report of an import: refused records and totals on standard output, progress on standard error.

use std::{
    io::{IsTerminal as _, stderr},
    time::{Duration, Instant},
};

use humantime::format_duration;
use indicatif::{ProgressBar, ProgressStyle};

use super::say;
use crate::{
    clock::monotonic_now,
    import::{Counts, Refused},
};

/// How often a progress line is written when standard error is not a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// The progress of an import.
pub(super) struct Report {
    /// Drawn only on a terminal.
    bar: ProgressBar,
    is_terminal: bool,
    began: Instant,
    last_line: Instant,
    length: Option<u64>,
    records: u64,
    refused: u64,
}

impl Report {
    /// Begins the report of a file of that many bytes; `None`: the length is unknown.
    pub(super) fn new(length: Option<u64>) -> Self {
        const BAR: &str = "{bar:30} {percent:>3} %  {msg}  {eta} left";
        let bar = match length {
            Some(length) => ProgressBar::new(length).with_style(
                ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar()),
            ),
            None => ProgressBar::new_spinner(),
        };
        let now = monotonic_now();
        Self {
            bar,
            is_terminal: stderr().is_terminal(),
            began: now,
            last_line: now,
            length,
            records: 0,
            refused: 0,
        }
    }

    /// Prints the records that were refused, and shows how many records and bytes have been read.
    pub(super) fn step(&mut self, records: u64, bytes: u64, refused: &[Refused]) {
        self.records += records;
        self.refused += refused.len() as u64;
        self.bar.suspend(|| {
            for Refused { line, reason } in refused {
                say(format_args!("line {line}: {reason}"));
            }
        });
        let now = monotonic_now();
        let elapsed = now.saturating_duration_since(self.began);
        let rate = rate(self.records, elapsed);
        self.bar
            .set_message(format!("{} records, {rate}/s", self.records));
        self.bar.set_position(bytes);
        if !self.is_terminal && now.saturating_duration_since(self.last_line) >= LINE_INTERVAL {
            self.last_line = now;
            let line = line(self.records, bytes, self.length, elapsed);
            eprintln!("countersign: {line}");
        }
    }

    /// The number of refused records.
    pub(super) const fn refused(&self) -> u64 {
        self.refused
    }

    /// Prints the totals.
    pub(super) fn finish(&self, counts: Counts) {
        self.bar.finish_and_clear();
        let Counts {
            imported,
            skipped,
            without_password,
            weak,
        } = counts;
        say(format_args!(
            "countersign: {imported} users imported, {skipped} already imported, {} refused",
            self.refused
        ));
        if without_password > 0 {
            say(format_args!(
                "countersign: {without_password} imported without a password: these users must reset it"
            ));
        }
        if weak > 0 {
            say(format_args!(
                "countersign: {weak} imported with a weak hash: see docs/import.md"
            ));
        }
    }
}

/// Records per second.
fn rate(records: u64, elapsed: Duration) -> u128 {
    u128::from(records) * 1_000 / elapsed.as_millis().max(1)
}

/// What the bar shows on a terminal, in a line: the records, the rate, and of a file of known length the share that was read
/// and the time left.
fn line(records: u64, bytes: u64, length: Option<u64>, elapsed: Duration) -> String {
    let read = format!("{records} records read, {}/s", rate(records, elapsed));
    let Some(length) = length.filter(|_| bytes > 0) else {
        return read;
    };
    let percent = u128::from(bytes) * 100 / u128::from(length.max(1));
    let rest = u128::from(length.saturating_sub(bytes));
    let left = elapsed.as_millis() * rest / u128::from(bytes) / 1_000;
    let left = Duration::from_secs(u64::try_from(left).unwrap_or(u64::MAX));
    format!("{read}, {percent} %, {} left", format_duration(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_progress_has_the_rate_the_share_and_the_time_left() {
        let line = line(20_000, 2_000_000, Some(10_000_000), Duration::from_secs(20));
        assert_eq!(line, "20000 records read, 1000/s, 20 %, 1m 20s left");
    }

    #[test]
    fn the_time_left_is_unknown_without_a_length_or_before_the_first_byte() {
        for (bytes, length) in [(2_000_000, None), (0, Some(10_000_000))] {
            let line = line(500, bytes, length, Duration::ZERO);
            assert_eq!(line, "500 records read, 500000/s");
        }
    }

    #[test]
    fn a_file_that_grew_while_it_was_read_has_no_time_left() {
        let line = line(1, u64::MAX, Some(1), Duration::from_secs(1));
        assert!(line.ends_with("%, 0s left"), "{line}");
    }
}

//! The report of an import: refused records and totals on standard output, progress on standard error.

use std::{
    io::{IsTerminal as _, stderr},
    time::{Duration, Instant},
};

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
        let millis = now.saturating_duration_since(self.began).as_millis().max(1);
        let rate = u128::from(self.records) * 1_000 / millis;
        self.bar
            .set_message(format!("{} records, {rate}/s", self.records));
        self.bar.set_position(bytes);
        if !self.is_terminal && now.saturating_duration_since(self.last_line) >= LINE_INTERVAL {
            self.last_line = now;
            let percent = self.length.map(|length| bytes * 100 / length.max(1));
            let percent = percent.map_or_else(String::new, |percent| format!(", {percent} %"));
            eprintln!(
                "countersign: {} records read, {rate}/s{percent}",
                self.records
            );
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

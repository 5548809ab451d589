//! What was measured: as a table on the terminal, as JSON, and as a chart.

use std::{fs, path::Path, time::UNIX_EPOCH};

use countersign::clock::Clock;
use serde::Serialize;

use super::{
    chart,
    error::Result,
    measured::{Bound, Line, figure},
    rounds::Medians,
};

/// Everything that was measured, and where.
#[derive(Serialize)]
pub struct Report {
    command: String,
    date: String,
    machine: String,
    lines: Vec<Line>,
    #[serde(skip)]
    quick: bool,
}

impl Report {
    /// An empty report of today on this machine.
    pub fn new(quick: bool) -> Self {
        let micros = Clock::System.now().micros().unsigned_abs();
        let now = UNIX_EPOCH + std::time::Duration::from_micros(micros);
        Self {
            command: format!("scripts/bench{}", if quick { " --quick" } else { "" }),
            date: humantime::format_rfc3339_seconds(now).to_string(),
            machine: machine(),
            lines: Vec::new(),
            quick,
        }
    }

    /// Adds a comparison.
    pub fn compare(
        &mut self,
        group: &str,
        name: &str,
        against: &'static str,
        medians: Medians,
        bound: Option<Bound>,
    ) {
        self.lines.push(Line {
            group: group.to_owned(),
            name: name.to_owned(),
            ours: medians.ours,
            other: Some((against, medians.other)),
            ratio: Some(medians.ratio),
            bound,
            met: bound.map(|bound| bound.holds(medians.ratio)),
        });
    }

    /// Adds a number.
    pub fn number(&mut self, group: &str, name: &str, value: f64, bound: Option<Bound>) {
        self.lines.push(Line {
            group: group.to_owned(),
            name: name.to_owned(),
            ours: value,
            other: None,
            ratio: None,
            bound,
            met: bound.map(|bound| bound.holds(value)),
        });
    }

    /// Prints the table.
    pub fn print(&self) {
        println!("\n{}\n{}\n{}\n", self.command, self.machine, self.date);
        println!(
            "| {:<18} | {:<34} | {:>11} | {:>11} | {:<22} | {:>6} | {:<8} | {:<6} |",
            "scenario", "measured", "countersign", "other", "the other", "ratio", "goal", ""
        );
        println!(
            "|{0:-<20}|{0:-<36}|{0:->13}|{0:->13}|{0:-<24}|{0:->8}|{0:-<10}|{0:-<8}|",
            ""
        );
        for line in &self.lines {
            let (against, other) = line.other.unzip();
            println!(
                "| {:<18} | {:<34} | {:>11} | {:>11} | {:<22} | {:>6} | {:<8} | {:<6} |",
                line.group,
                line.name,
                figure(line.ours),
                other.map(figure).unwrap_or_default(),
                against.unwrap_or_default(),
                line.ratio
                    .map(|ratio| format!("{ratio:.3}"))
                    .unwrap_or_default(),
                line.bound.map(Bound::text).unwrap_or_default(),
                match line.met {
                    Some(true) => "met",
                    Some(false) => "MISSED",
                    None => "",
                },
            );
        }
    }

    /// Writes the JSON and the chart.
    pub fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        let name = if self.quick { "load-quick" } else { "load" };
        let json = serde_json::to_string_pretty(self)? + "\n";
        fs::write(folder.join(name).with_extension("json"), json)?;
        let svg = chart::draw(&self.lines, &format!("{}, {}", self.machine, self.date));
        fs::write(folder.join(name).with_extension("svg"), svg)?;
        println!(
            "\nwritten: {name}.json and {name}.svg in {}",
            folder.display()
        );
        Ok(())
    }
}

fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory: u64 = memory
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .unwrap_or(0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{model}, {cores} cores shared by client and server, {} GiB, Linux {}",
        memory >> 20,
        kernel.trim()
    )
}

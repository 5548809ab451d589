//! `countersign passwords`: makes the filter of passwords that are known from breaches.

use std::{
    error::Error,
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use clap::Subcommand;

use super::{Outcome, say};
use crate::passwords::{BuiltFilter, build_filter};

#[derive(Subcommand)]
pub(super) enum PasswordsCommand {
    /// Make the file for COUNTERSIGN_BREACHED_PASSWORDS_FILE from a public list of breached passwords
    ///
    /// The list has a SHA-1 in hexadecimal on each line, in order, perhaps with a colon and how often it was seen: as
    /// the downloader of Have I Been Pwned writes it. No network is used.
    BuildFilter {
        /// The list; - reads standard input
        list: PathBuf,
        /// The file to make; one of that name is replaced at the end
        out: PathBuf,
        /// Leave out passwords that were seen less often than this
        #[arg(long, default_value_t = 1, value_name = "COUNT")]
        least_count: u64,
    },
}

pub(super) fn run(command: &PasswordsCommand) -> Outcome {
    let PasswordsCommand::BuildFilter {
        list,
        out,
        least_count,
    } = command;
    match build(list, out, *least_count) {
        Ok(built) => {
            say(format_args!(
                "countersign: {} has {} passwords in {} bytes; {} lines were left out",
                out.display(),
                built.passwords,
                built.bytes,
                built.left_out
            ));
            Outcome::Done
        }
        Err(error) => {
            eprintln!("countersign: {error}");
            Outcome::Failed
        }
    }
}

fn build(list: &Path, out: &Path, least_count: u64) -> Result<BuiltFilter, Box<dyn Error>> {
    let list: Box<dyn BufRead> = if list == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(list).map_err(|error| format!("{}: {error}", list.display()))?;
        Box::new(BufReader::with_capacity(1 << 16, file))
    };
    Ok(build_filter(list, out, least_count)?)
}

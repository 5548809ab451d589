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
    /// Build the file for COUNTERSIGN_BREACHED_PASSWORDS_FILE from a public list of breached passwords
    ///
    /// The list has the format of the Have I Been Pwned downloader: on each line a SHA-1 in hexadecimal, in ascending order,
    /// optionally followed by a colon and how often the password was seen. No network is used.
    BuildFilter {
        /// The list; - reads standard input
        list: PathBuf,
        /// The file to create; an existing one is replaced at the end
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

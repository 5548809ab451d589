//! `countersign config check`: reading the configuration has reported every problem already.

use super::{Outcome, say};
use crate::config::Config;

pub(super) fn run(config: &Config) -> Outcome {
    say(format_args!(
        "countersign: the configuration is good: {config:#?}"
    ));
    Outcome::Done
}

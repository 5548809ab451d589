//! What is measured; one file each.

mod validate;

use super::{Result, report::Report};

/// A scenario.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Scenario {
    /// `ValidateToken` with tokens seen before, against an echo
    Validate,
}

impl Scenario {
    /// What is being done.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Validate => "validate: tokens seen before, against an echo",
        }
    }

    /// Does it.
    pub async fn run(self, quick: bool, report: &mut Report) -> Result<()> {
        match self {
            Self::Validate => validate::run(quick, report).await,
        }
    }
}

//! Collects everything that is wrong with the configuration, so that the operator reads it all at once.

use std::{error::Error, fmt};

use super::refusal::Refusal;

/// One thing that is wrong: prints as one line that names the variable, what is wrong, and what to
/// write instead. It never repeats the value of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    source: String,
    message: String,
}

impl Problem {
    /// The variable (or the file) that has to be changed.
    pub fn source(&self) -> &str {
        &self.source
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source, self.message)
    }
}

/// All that is wrong with the configuration; prints as one line per [`Problem`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    /// The problems, at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl Error for ConfigError {}

/// The problems found so far.
#[derive(Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    /// Notes a problem of a variable or file.
    pub fn add(&mut self, source: impl Into<String>, message: impl fmt::Display) {
        self.0.push(Problem {
            source: source.into(),
            message: one_line(&message.to_string()),
        });
    }

    /// Notes that `variables`, of which the first is named, break a rule together when `holds` is
    /// false. Silent when one of them was refused already: its value is only a stand-in then.
    pub fn demand(&mut self, variables: &[&str], holds: bool, wrong: &str, hint: &str) {
        let refused = |name: &&str| self.0.iter().any(|problem| problem.source == **name);
        if !holds && !variables.iter().any(refused) {
            self.add(variables[0], Refusal::new(wrong, hint));
        }
    }

    /// Leaves out the problems whose variable or file is not `kept`.
    pub fn retain(&mut self, kept: impl Fn(&str) -> bool) {
        self.0.retain(|problem| kept(&problem.source));
    }

    /// `value`, when nothing was wrong.
    pub fn into_result<T>(self, value: T) -> Result<T, ConfigError> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(ConfigError { problems: self.0 })
        }
    }
}

/// serde repeats what it did not expect as it is: it may be long and hold line breaks.
fn one_line(message: &str) -> String {
    const LONGEST: usize = 400;
    let escape = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    let short: String = message.chars().take(LONGEST).map(escape).collect();
    let more = if message.chars().nth(LONGEST).is_some() {
        "…"
    } else {
        ""
    };
    short + more
}

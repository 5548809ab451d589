//! Collects everything that is wrong with the configuration, so that the operator reads it all at once.

use std::{error::Error, fmt};

use super::{
    parse::Refusal,
    variables::{DefaultValue, Input},
};

/// One thing that is wrong: prints as one line that names the variable, what is wrong, and what is allowed.
///
/// It never repeats the value of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    source: String,
    refusal: Refusal,
}

impl Problem {
    pub(super) fn new(source: impl Into<String>, refusal: Refusal) -> Self {
        Self {
            source: source.into(),
            refusal,
        }
    }

    /// The variable (or the `.env` file) that has to be changed.
    pub fn source(&self) -> &str {
        &self.source
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { wrong, allowed } = &self.refusal;
        write!(f, "{}: {wrong}; allowed: {allowed}", self.source)
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
    pub fn add(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Parses what was given, or else the declared default. A refusal is noted, and the default
    /// stands in so that the pass can go on: its result is thrown away in the end.
    pub fn read<T>(&mut self, input: &Input, parse: impl Fn(&str) -> Result<T, Refusal>) -> T {
        let DefaultValue::Text(default) = input.variable.default else {
            unreachable!(
                "{} has no default text: use `read_if_given`",
                input.variable.name
            );
        };
        self.read_if_given(input, &parse).unwrap_or_else(|| {
            parse(default).unwrap_or_else(|_| {
                unreachable!("the default of {} is one it accepts", input.variable.name)
            })
        })
    }

    /// Parses what was given; `None` when nothing was, or nothing usable.
    pub fn read_if_given<T>(
        &mut self,
        input: &Input,
        parse: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Option<T> {
        match parse(input.text.as_deref()?) {
            Ok(value) => Some(value),
            Err(refusal) => {
                self.refuse(input, refusal);
                None
            }
        }
    }

    /// Notes that `input` cannot stay as it is.
    pub fn refuse(&mut self, input: &Input, refusal: Refusal) {
        self.add(Problem::new(input.variable.name, refusal));
    }

    /// Notes that `inputs`, of which the first is named, break a rule together when `holds` is
    /// false. Silent when one of them was refused already: its value here is only a stand-in.
    pub fn demand(&mut self, inputs: &[&Input], holds: bool, wrong: &str, allowed: &str) {
        let judged = |input: &&Input| self.0.iter().any(|p| p.source == input.variable.name);
        if !holds && !inputs.iter().any(judged) {
            self.refuse(inputs[0], Refusal::new(wrong, allowed));
        }
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

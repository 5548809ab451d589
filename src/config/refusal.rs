//! Why the value of a variable was not accepted, in one line that also says what to write instead.

use std::fmt;

/// Why a value was not accepted. Neither text may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong.
    wrong: String,
    /// What to write instead: a clause such as "use 30s".
    hint: String,
}

impl Refusal {
    pub(super) fn new(wrong: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            wrong: wrong.into(),
            hint: hint.into(),
        }
    }

    /// The same with the beginning of the value, which must not be a secret.
    pub(super) fn of(text: &str, wrong: &str, hint: impl Into<String>) -> Self {
        let start: String = text.chars().take(60).collect();
        let more = if start.len() < text.len() { "…" } else { "" };
        Self::new(format!("{start:?}{more} {wrong}"), hint)
    }

    /// What is wrong, without the hint.
    pub(super) fn wrong(&self) -> &str {
        &self.wrong
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.wrong, self.hint)
    }
}

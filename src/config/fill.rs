//! Fills the typed values from texts, through envy, and finds every problem and not only the first.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    names::{field_name, is_declared, is_ours, nearest},
    problems::Problems,
    refusal::Refusal,
    source::Texts,
    variables::{DefaultValue, VARIABLES, Values},
};

/// Set to nothing, this variable says that the HTTP server is off; elsewhere nothing means unset.
const OFF_WHEN_EMPTY: &str = "COUNTERSIGN_HTTP_ADDR";

/// The value of every variable, and which of them the operator gave.
pub(super) struct Given {
    pub values: Values,
    names: BTreeSet<String>,
}

impl Given {
    /// Whether the variable was set, well or badly, and not left to its default.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }
}

/// Reads `texts`; a value that is refused is noted, and its default stands in for it, so that the
/// rules between variables can be checked as well.
///
/// envy stops at its first error. So each text is read by itself first, beside the defaults of all
/// other variables: an error is that variable's. What was accepted is then read together.
pub(super) fn read(texts: Texts, problems: &mut Problems) -> Given {
    let (declared, unknown): (Texts, Texts) =
        texts.into_iter().partition(|(name, _)| is_declared(name));
    refuse_unknown(&unknown, problems);

    let defaults = defaults();
    let mut accepted = defaults.clone();
    let mut names = BTreeSet::new();
    for (name, text) in declared {
        let text = text.trim();
        if text.is_empty() && name != OFF_WHEN_EMPTY {
            continue;
        }
        let field = field_name(&name).to_owned();
        let mut alone = defaults.clone();
        alone.insert(field.clone(), text.to_owned());
        match envy::from_iter::<_, Values>(alone) {
            Ok(_) => drop(accepted.insert(field, text.to_owned())),
            Err(error) => problems.add(&name, error),
        }
        names.insert(name);
    }
    let values = envy::from_iter(accepted)
        .unwrap_or_else(|error| unreachable!("each of them was accepted by itself: {error}"));
    Given { values, names }
}

/// The default texts, by field. Variables without one are `Option`s, which envy leaves empty.
fn defaults() -> BTreeMap<String, String> {
    let texts = VARIABLES
        .iter()
        .filter_map(|variable| match variable.default {
            DefaultValue::Text(text) => {
                Some((field_name(variable.name).to_owned(), text.to_owned()))
            }
            DefaultValue::Rule(_) => None,
        });
    texts.collect()
}

/// A name with our prefix that is not declared is a typing error, which must not go unnoticed.
fn refuse_unknown(unknown: &Texts, problems: &mut Problems) {
    let names = unknown
        .iter()
        .filter(|(name, text)| is_ours(name) && !text.trim().is_empty());
    for (name, _) in names {
        let hint = match nearest(name) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => "docs/configuration.md and .env.example list all variables".to_owned(),
        };
        problems.add(name, Refusal::new("there is no such variable", hint));
    }
}

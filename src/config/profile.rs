//! Where the service runs, and what production refuses.

use std::{fmt, time::Duration};

use super::{
    Argon2Settings, Config, Tls, parse, parse::Refusal, problems::Problems, variables::Inputs,
};

/// Where the service runs; decides a few defaults and what is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// A developer's machine: everything has a default, and keys are made where none are given.
    Development,
    /// As development, but nothing is written where the caller did not point: the database must be
    /// named, and with PostgreSQL the master keys must be given. `.env` is not read.
    Test,
    /// Refuses what is convenient and unsafe. `.env` is not read: one that slipped into an image
    /// must not weaken it.
    Production,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Development => "development",
            Self::Test => "test",
            Self::Production => "production",
        })
    }
}

impl Profile {
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        parse::choice(&[
            ("development", Self::Development),
            ("test", Self::Test),
            ("production", Self::Production),
        ])(text)
    }
}

/// The longest access token that production issues.
const LONGEST_ACCESS_TOKEN: Duration = Duration::from_secs(30 * 60);

/// Parameters of equal strength: memory in KiB, iterations, lanes. Source: OWASP Password Storage
/// Cheat Sheet, "Argon2id".
const OWASP_EQUIVALENTS: [(u32, u32, u32); 5] = [
    (47_104, 1, 1),
    (19_456, 2, 1),
    (12_288, 3, 1),
    (9_216, 4, 1),
    (7_168, 5, 1),
];

impl Argon2Settings {
    /// Whether these parameters cost an attacker at least as much as one of OWASP's equivalents.
    pub(super) fn is_strong(self) -> bool {
        OWASP_EQUIVALENTS
            .iter()
            .any(|&(memory_kib, iterations, parallelism)| {
                self.memory_kib >= memory_kib
                    && self.iterations >= iterations
                    && self.parallelism >= parallelism
            })
    }
}

/// What production demands besides what every profile does. (That master keys are given is
/// checked where they are read.)
pub(super) fn check_production(config: &Config, inputs: &Inputs, problems: &mut Problems) {
    problems.demand(
        &[&inputs.tls],
        config.tls != Tls::Off,
        "production does not speak plain text",
        "terminated, when a mesh or gateway encrypts in front of the service",
    );
    problems.demand(
        &[&inputs.issuer],
        config.tokens.issuer.starts_with("https://"),
        "production needs an issuer that can be verified",
        "an https URL",
    );
    problems.demand(
        &[&inputs.access_token_ttl],
        config.tokens.access_ttl <= LONGEST_ACCESS_TOKEN,
        "an access token lives too long for production",
        "at most 30m",
    );
    problems.demand(
        &[&inputs.argon2_memory_kib, &inputs.argon2_iterations, &inputs.argon2_parallelism],
        config.passwords.argon2.is_strong(),
        "with these iterations and lanes it is weaker than OWASP's minimum for Argon2id",
        "at least one of 47104 KiB with 1 iteration, 19456 with 2, 12288 with 3, 9216 with 4, 7168 with 5",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owasp_equivalents_are_the_floor() {
        let strong = |memory_kib, iterations, parallelism| {
            Argon2Settings {
                memory_kib,
                iterations,
                parallelism,
            }
            .is_strong()
        };
        assert!(strong(19_456, 2, 1));
        assert!(strong(47_104, 1, 1));
        assert!(strong(7_168, 6, 4));
        assert!(strong(65_536, 3, 4));
        assert!(!strong(19_455, 2, 1));
        assert!(!strong(46_000, 1, 8));
        assert!(!strong(7_167, 100, 1));
    }
}

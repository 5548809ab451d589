//! What a new password must fulfil (NIST SP 800-63B-4 section 3.1.1.2): long and hard to guess, no more.

use unicode_normalization::UnicodeNormalization;
use zxcvbn::{Score, feedback::Feedback, zxcvbn};

use crate::domain::{FieldViolation, Password, ViolationReason};

/// Words that an attacker who knows the service tries first (section 3.1.1.2: "context-specific words,
/// such as the name of the service").
const SERVICE_NAMES: [&str; 1] = ["countersign"];

/// The least score accepted: 3, "safely unguessable: moderate protection from offline slow-hash
/// scenario", at least 10⁸ guesses.
const LEAST_SCORE: Score = Score::Three;

/// The characters that zxcvbn also reads as letters ("l33t"). It tries every combination of those present: thousands
/// for a password that holds all, which took a second of CPU time.
const LOOK_ALIKES: &str = "4@8({[<3691!|70$5+%2";

/// A password with more different look-alikes than this is checked by its beginning alone. Few passwords have so many: all
/// ten digits are within it.
const MOST_LOOK_ALIKES: usize = 10;

/// How many characters that beginning has: enough for a good score, little enough to be quick.
const BEGINNING: usize = 24;

/// Parts of names shorter than this are left out: forbidding "li" would forbid half of all words.
const SHORTEST_NAME: usize = 3;

/// The rules for new passwords. None is about composition (NIST SP 800-63B-4 section 3.1.1.2 forbids such rules).
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    /// The fewest code points a password may have.
    pub min_length: usize,
}

impl Policy {
    /// Checks the length, which is cheap enough for the request's own thread.
    pub fn check_length(
        self,
        field: &'static str,
        password: &Password,
    ) -> Result<(), FieldViolation> {
        if password.expose().chars().count() >= self.min_length {
            return Ok(());
        }
        Err(FieldViolation::new(
            field,
            ViolationReason::TooShort,
            format!("must have at least {} code points", self.min_length),
        ))
    }

    /// Checks how hard the password is to guess for an attacker who knows `personal`: the
    /// e-mail address and the name. Takes milliseconds, so it belongs on a worker.
    ///
    /// zxcvbn looks at the first 100 characters, or fewer (see [`MOST_LOOK_ALIKES`]).
    /// Its copies of the password are freed without being wiped.
    pub fn check_guessability(
        field: &'static str,
        password: &Password,
        personal: &[String],
    ) -> Result<(), FieldViolation> {
        let names = names(personal);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let estimate = zxcvbn(checked_part(password.expose()), &names);
        if estimate.score() >= LEAST_SCORE {
            return Ok(());
        }
        // The warnings are constant sentences of zxcvbn, such as "Dates are often easy to guess."
        let warning = estimate
            .feedback()
            .and_then(Feedback::warning)
            .map_or_else(String::new, |warning| format!(" ({warning})"));
        Err(FieldViolation::new(
            field,
            ViolationReason::TooGuessable,
            format!(
                "is too easy to guess{warning}: avoid names, common words and phrases, dates, repetition and \
                 keyboard patterns; several unrelated words make a good password"
            ),
        ))
    }
}

/// The part of a password that zxcvbn checks, so that no password takes long.
fn checked_part(password: &str) -> &str {
    let present = LOOK_ALIKES.chars().filter(|&c| password.contains(c));
    let beginning = password.char_indices().nth(BEGINNING);
    match beginning {
        Some((end, _)) if present.count() > MOST_LOOK_ALIKES => &password[..end],
        _ => password,
    }
}

/// Everything in `personal` that could turn up in a password: each text whole, the two sides of an
/// address, and each word. Normalised as passwords are.
fn names(personal: &[String]) -> Vec<String> {
    let mut names: Vec<String> = SERVICE_NAMES.map(str::to_owned).to_vec();
    for text in personal {
        let text: String = text.nfkc().collect();
        let sides = text.split('@');
        let words = text.split(|c: char| !c.is_alphanumeric());
        names.extend(
            std::iter::once(text.as_str())
                .chain(sides)
                .chain(words)
                .filter(|name| name.chars().count() >= SHORTEST_NAME)
                .map(str::to_owned),
        );
    }
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: Policy = Policy { min_length: 15 };

    fn password(text: &str) -> Password {
        Password::parse("password", text).unwrap()
    }

    fn guessable(text: &str, personal: &[&str]) -> bool {
        let personal: Vec<String> = personal.iter().map(ToString::to_string).collect();
        match Policy::check_guessability("new_password", &password(text), &personal) {
            Ok(()) => false,
            Err(violation) => {
                assert_eq!(violation.field, "new_password");
                assert_eq!(violation.reason, ViolationReason::TooGuessable);
                assert!(!violation.description.contains(text));
                true
            }
        }
    }

    #[test]
    fn length_counts_code_points() {
        let check = |text| POLICY.check_length("password", &password(text));
        assert_eq!(
            check("14 code points").unwrap_err().reason,
            ViolationReason::TooShort
        );
        assert_eq!(check("15 code points!"), Ok(()));
        assert_eq!(check("ééééééééééééééé"), Ok(()));
        assert!(check("éééééééééééééé").is_err());
    }

    #[test]
    fn common_passwords_are_refused() {
        for text in [
            "passwordpassword",
            "aaaaaaaaaaaaaaaaaaaa",
            "abcdefghijklmnopqrstuvwxyz",
            "qwertyuiopasdfghjkl",
            "1234567890123456789",
            "countersigncountersign",
        ] {
            assert!(guessable(text, &[]), "{text}");
        }
    }

    #[test]
    fn passwords_that_are_hard_to_guess_are_accepted() {
        for text in [
            "correct horse battery staple",
            "xK7#mQ2$vL9!pR4&",
            "тайный пароль для входа",
            "🐎🔋📎🦜🧭🪁🎻🧊🥝🗿🛶🪴🧲🕯🪶",
        ] {
            assert!(
                !guessable(text, &["ada@example.org", "Ada Lovelace"]),
                "{text}"
            );
        }
    }

    #[test]
    fn passwords_made_of_personal_data_are_refused() {
        let personal = [
            "zbygniew.trzcinski@przykladowo.example",
            "Wilhelmyna Quakkenbusz",
        ];
        for text in [
            "zbygniew.trzcinski@przykladowo.example",
            "zbygniew.trzcinski1",
            "TrzcinskiZbygniew",
            "wilhelmynaquakkenbusz",
            "Przykladowo2024",
        ] {
            assert!(!guessable(text, &[]), "{text} alone");
            assert!(guessable(text, &personal), "{text}");
        }
    }

    #[test]
    fn names_are_normalised_as_passwords_are() {
        // Passwords are composed (NFKC) whatever was typed, so names must be, too.
        assert!(!guessable("Ame\u{301}liexyzquu1", &[]));
        assert!(guessable("Ame\u{301}liexyzquu1", &["Ame\u{301}liexyzquu"]));
    }

    #[test]
    fn a_password_that_would_be_slow_to_check_is_checked_by_its_beginning() {
        let digits = "0123456789".repeat(10);
        assert_eq!(checked_part(&digits), digits);
        let slow = LOOK_ALIKES.repeat(10);
        assert_eq!(checked_part(&slow), &slow[..BEGINNING]);
        assert!(!guessable(&slow, &[]));
        assert_eq!(checked_part(LOOK_ALIKES), LOOK_ALIKES);
        let wide = format!("{}{LOOK_ALIKES}", "🐎".repeat(BEGINNING));
        assert_eq!(checked_part(&wide), "🐎".repeat(BEGINNING));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn the_check_never_panics(text in "[^\0]{1,60}", name in "\\PC{0,20}@?\\PC{0,20}") {
            if let Ok(password) = Password::parse("password", &text) {
                let _ = Policy::check_guessability("password", &password, &[name]);
            }
        }
    }
}

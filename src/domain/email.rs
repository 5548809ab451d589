//! E-mail addresses that the service accepts.

use std::{borrow::Cow, fmt};

use email_address::{EmailAddress, Options};
use icu_properties::{CodePointSetData, props::DefaultIgnorableCodePoint};
use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

use super::{FieldViolation, ViolationReason, email_key};

/// A syntactically valid address (RFC 5321 section 4.1.2, RFC 6531), as it was typed.
///
/// Two spellings of one mailbox name one user: see [`Email::key`]. `Debug` is redacted, for addresses may not reach a
/// log.
#[derive(Clone, PartialEq, Eq)]
pub struct Email(String);

const TOO_LONG: &str = "must have at most 254 bytes";

impl Email {
    /// The longest address that SMTP carries, in bytes (RFC 5321 section 4.5.3.1.3).
    const MAX_BYTES: usize = 254;

    /// Takes the text of `field`. White space around it is left out.
    ///
    /// # Errors
    /// Empty, too long, not an address, or with invisible characters in it.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, FieldViolation> {
        let refuse =
            |reason, description: &str| Err(FieldViolation::new(field, reason, description));
        let text = text.trim();
        if text.is_empty() {
            return refuse(ViolationReason::Required, "must not be empty");
        }
        // Composition may shorten or lengthen a text, so the length after it counts. It shortens a text to a quarter at most.
        if text.len() > Self::MAX_BYTES * 4 {
            return refuse(ViolationReason::TooLong, TOO_LONG);
        }
        if text.chars().any(is_invisible) {
            return refuse(
                ViolationReason::ForbiddenCharacter,
                "must not contain spaces, control, formatting or unassigned characters",
            );
        }
        let text: String = text.nfc().collect();
        if text.len() > Self::MAX_BYTES {
            return refuse(ViolationReason::TooLong, TOO_LONG);
        }
        // Some characters fold to an @, which would move the border between mailbox and domain.
        let at_signs = |text: &str| text.matches('@').count();
        if !is_address(&text) || at_signs(&email_key::key_of(&text)) != at_signs(&text) {
            return refuse(ViolationReason::Malformed, "must be an e-mail address");
        }
        Ok(Self(text))
    }

    /// An address read from the database.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The address as it was typed, in NFC.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is before the `@`, and the domain as DNS and SMTP servers know it: in its ASCII form (RFC 5891) where it has one.
    /// Only what is before the `@` may need a server with SMTPUTF8 (RFC 6531) then.
    pub fn parts(&self) -> (&str, Cow<'_, str>) {
        let (local, domain) = self.0.rsplit_once('@').unwrap_or((&self.0, ""));
        let ascii = Some(domain)
            .filter(|domain| !domain.is_ascii())
            .and_then(email_key::to_ascii);
        (local, ascii.map_or(Cow::Borrowed(domain), Cow::Owned))
    }

    /// The one key of all spellings of this mailbox: case folded in every alphabet, the domain in its ASCII form.
    pub fn key(&self) -> String {
        email_key::key_of(&self.0)
    }

    /// The key that versions up to 0.1 stored, in NFKC and lower case. Accounts from then are found by it as well.
    pub fn legacy_key(&self) -> String {
        email_key::legacy_key_of(&self.0)
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email([redacted])")
    }
}

fn is_address(text: &str) -> bool {
    let options = Options::default()
        .with_required_tld()
        .without_domain_literal()
        .without_display_text();
    // Quoted local parts are legal in RFC 5321, but much software mishandles them.
    !text.contains('"')
        && EmailAddress::parse_with_options(&replace_combining_marks(text), options).is_ok()
}

/// The text with a letter of the same length in place of each combining mark that follows a letter. The crate takes letters
/// and digits of every alphabet, but not the marks without which many of them cannot be written (RFC 6531 section 3.3 allows
/// both).
fn replace_combining_marks(text: &str) -> String {
    let mut after_letter = false;
    let instead = |c: char| {
        let is_mark = after_letter && is_mark(c);
        after_letter = is_mark || c.is_alphanumeric();
        match (is_mark, c.len_utf8()) {
            (false, _) => c,
            (true, 2) => '\u{e9}',
            (true, 3) => '\u{4e2d}',
            (true, _) => '\u{20000}',
        }
    };
    text.chars().map(instead).collect()
}

/// Whether it is a combining mark that can be seen.
fn is_mark(c: char) -> bool {
    let is_ignorable = || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c);
    c.general_category_group() == GeneralCategoryGroup::Mark && !is_ignorable()
}

fn is_invisible(c: char) -> bool {
    matches!(
        c.general_category_group(),
        GeneralCategoryGroup::Other | GeneralCategoryGroup::Separator
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// U+FB2C may not be composed: in NFC it is three characters and twice as long.
    #[test]
    fn the_length_is_measured_after_composition() {
        let domain = "@example.org";
        let grows = "\u{fb2c}".repeat(60);
        let violation = Email::parse("email", &(grows + domain)).unwrap_err();
        assert_eq!(violation.reason, ViolationReason::TooLong);
        let shrinks = "e\u{301}".repeat(30) + "@" + &"a\u{308}".repeat(30) + ".org";
        let email = Email::parse("email", &shrinks).unwrap();
        assert_eq!(Email::parse("email", email.as_str()).unwrap(), email);
    }

    #[test]
    fn spellings_that_differ_in_case_or_composition_have_one_key() {
        let spellings = [
            "Zoë@Example.org",
            "zoe\u{308}@EXAMPLE.ORG",
            "zoë@example.org",
        ];
        let keys: Vec<_> = spellings
            .iter()
            .map(|s| Email::parse("email", s).unwrap().key())
            .collect();
        assert!(keys.iter().all(|key| key == &keys[0]), "{keys:?}");
    }

    #[test]
    fn combining_marks_are_letters_of_an_address_where_they_follow_one() {
        let dotted = Email::parse("email", "i\u{307}da@example.org").unwrap();
        assert_eq!(
            dotted.key(),
            Email::parse("email", "\u{130}DA@example.org")
                .unwrap()
                .key()
        );
        for text in [
            // Hindi, Tamil, Thai: vowels and tones are marks.
            "\u{939}\u{93f}\u{928}\u{94d}\u{926}\u{940}@\u{909}\u{926}\u{93e}\u{939}\u{930}\u{923}.\u{92d}\u{93e}\u{930}\u{924}",
            "\u{ba4}\u{bae}\u{bbf}\u{bb4}\u{bcd}@example.org",
            "\u{e17}\u{e35}\u{e48}@example.org",
        ] {
            assert_eq!(Email::parse("email", text).unwrap().as_str(), text);
        }
        for text in [
            "\u{307}ada@example.org",
            "ada.\u{307}b@example.org",
            "ada@\u{307}example.org",
            // Marks that cannot be seen: a joiner and a variation selector.
            "a\u{34f}da@example.org",
            "a\u{fe0f}da@example.org",
        ] {
            assert!(
                Email::parse("email", text).is_err(),
                "{text:?} was accepted"
            );
        }
    }

    #[test]
    fn mail_servers_get_the_ascii_form_of_the_domain() {
        let email = Email::parse("email", "Zoë@Bücher.example").unwrap();
        assert_eq!(email.parts(), ("Zoë", "xn--bcher-kva.example".into()));
        let email = Email::parse("email", "Ada@Example.org").unwrap();
        assert_eq!(email.parts(), ("Ada", "Example.org".into()));
    }

    #[test]
    fn surrounding_white_space_is_removed() {
        for typed in [" ada@c.org", "ada@c.org\n", "\u{3000}ada@c.org\u{a0}\t"] {
            assert_eq!(Email::parse("email", typed).unwrap().as_str(), "ada@c.org");
        }
    }

    #[test]
    fn texts_that_are_no_address_are_refused() {
        for text in [
            "",
            "a",
            "a@",
            "@b.org",
            "a@b@c.org",
            "a b@c.org",
            "a@b..org",
            "a@-b.org",
            "a@localhost",
            "a@[127.0.0.1]",
            "\"a b\"@c.org",
            "Ada <ada@c.org>",
            "a\0@c.org",
            "a\u{202e}@c.org",
            "a\u{200d}@c.org",
            "a\n@c.org",
            // A small commercial at, which NFKC makes an @.
            "ada@x\u{fe6b}y.org",
            "a\u{fe6b}b@example.org",
            " \t\n",
        ] {
            assert!(
                Email::parse("email", text).is_err(),
                "{text:?} was accepted"
            );
        }
        assert!(Email::parse("email", &format!("{}@c.org", "x".repeat(1 << 20))).is_err());
    }

    #[test]
    fn debug_is_redacted() {
        let email = Email::parse("email", "ada@example.org").unwrap();
        assert!(!format!("{email:?}").contains("ada"));
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_accepted_addresses_parse_again(text in "\\PC{0,40}@?\\PC{0,40}") {
            if let Ok(email) = Email::parse("email", &text) {
                let again = Email::parse("email", email.as_str()).unwrap();
                prop_assert_eq!(again.key(), email.key());
                prop_assert!(email.as_str().contains('@'));
            }
        }

        #[test]
        fn ordinary_addresses_are_accepted_in_any_case(
            local in "[a-zA-Z0-9_+-]{1,30}", domain in "[a-zA-Z0-9]{1,20}", tld in "[a-zA-Z]{2,6}",
        ) {
            let text = format!("{local}@{domain}.{tld}");
            let email = Email::parse("email", &text).unwrap();
            let upper = Email::parse("email", &text.to_uppercase()).unwrap();
            prop_assert_eq!(email.key(), upper.key());
            prop_assert_eq!(email.as_str(), text);
        }
    }
}

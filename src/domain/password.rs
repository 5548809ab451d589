//! A plaintext password, normalised so that every keyboard and platform yields the same bytes.

use unicode_normalization::UnicodeNormalization;

use super::{FieldViolation, ViolationReason};
use crate::secret::Secret;

/// A plaintext password, NFKC-normalised (NIST SP 800-63B-4 section 3.1.1.2), wiped on drop.
///
/// It enforces the rules for every password. The further rules for *new* passwords are in `passwords::policy`.
#[derive(Clone, Debug)]
pub struct Password {
    normalised: Secret<String>,
    /// What was typed, where that is another text.
    typed: Option<Secret<String>>,
}

impl Password {
    /// The longest password accepted, in code points after normalisation.
    pub const MAX_CODE_POINTS: usize = 256;

    /// Checks and normalises the text of the request's `field`.
    ///
    /// # Errors
    /// It is empty, longer than [`Self::MAX_CODE_POINTS`], or holds a NUL.
    pub fn parse(field: &'static str, typed: &str) -> Result<Self, FieldViolation> {
        if typed.is_empty() {
            return Err(FieldViolation::new(
                field,
                ViolationReason::Required,
                "must not be empty",
            ));
        }
        // NFKC can lengthen a text 18-fold: stop at the bound instead of copying megabytes.
        let normalised: Secret<String> =
            Secret::new(typed.nfkc().take(Self::MAX_CODE_POINTS + 1).collect());
        if normalised.expose().chars().count() > Self::MAX_CODE_POINTS {
            return Err(FieldViolation::new(
                field,
                ViolationReason::TooLong,
                format!("must have at most {} code points", Self::MAX_CODE_POINTS),
            ));
        }
        if normalised.expose().contains('\0') {
            return Err(FieldViolation::new(
                field,
                ViolationReason::ForbiddenCharacter,
                "must not contain NUL",
            ));
        }
        let differs = normalised.expose() != typed;
        Ok(Self {
            typed: differs.then(|| Secret::new(typed.to_owned())),
            normalised,
        })
    }

    /// The normalised text.
    pub fn expose(&self) -> &str {
        self.normalised.expose()
    }

    /// The text as it was typed: hashes of systems that do not normalise are verified with it.
    pub fn expose_typed(&self) -> &str {
        self.typed.as_ref().unwrap_or(&self.normalised).expose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(typed: &str) -> Option<ViolationReason> {
        Password::parse("password", typed).err().map(|v| v.reason)
    }

    #[test]
    fn composed_and_decomposed_forms_are_the_same_password() {
        let composed = Password::parse("password", "caf\u{e9} au lait").unwrap();
        let decomposed = Password::parse("password", "cafe\u{301} au lait").unwrap();
        assert_eq!(composed.expose(), decomposed.expose());
        assert_eq!(composed.expose_typed(), "caf\u{e9} au lait");
        assert_eq!(decomposed.expose_typed(), "cafe\u{301} au lait");
    }

    #[test]
    fn empty_overlong_and_nul_passwords_are_refused_and_all_else_is_accepted() {
        assert_eq!(reason(""), Some(ViolationReason::Required));
        assert_eq!(reason("a\0b"), Some(ViolationReason::ForbiddenCharacter));
        assert_eq!(reason(&"x".repeat(256)), None);
        assert_eq!(reason(&"x".repeat(257)), Some(ViolationReason::TooLong));
        assert_eq!(
            reason(&"\u{fdfa}".repeat(100_000)),
            Some(ViolationReason::TooLong)
        );
        assert_eq!(reason("🔑 🐎 \u{202e} everything but NUL is allowed"), None);
    }

    #[test]
    fn debug_is_redacted() {
        let password = Password::parse("password", "correct horse").unwrap();
        assert!(!format!("{password:?}").contains("horse"));
    }
}

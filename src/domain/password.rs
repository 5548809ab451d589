//! A password as the user typed it, normalised so that every keyboard types the same one.

use unicode_normalization::UnicodeNormalization;

use super::{FieldViolation, ViolationReason};
use crate::secret::Secret;

/// A plaintext password, NFKC-normalised (NIST SP 800-63B-4 section 3.1.1.2), wiped on drop.
///
/// It keeps the rules that hold for every password ever accepted. What a *new* password must
/// fulfil besides is the policy's business (`passwords::policy`).
#[derive(Clone, Debug)]
pub struct Password(Secret<String>);

impl Password {
    /// The longest password accepted, in code points after normalisation.
    pub const MAX_CODE_POINTS: usize = 256;

    /// Takes what was typed into `field`.
    ///
    /// # Errors
    /// Empty, longer than [`Self::MAX_CODE_POINTS`], or with a NUL in it.
    pub fn parse(field: &'static str, typed: &str) -> Result<Self, FieldViolation> {
        if typed.is_empty() {
            return Err(FieldViolation::new(
                field,
                ViolationReason::Required,
                "must not be empty",
            ));
        }
        // Normalisation can lengthen a text 18-fold: stop as soon as it is too long, before the
        // megabytes are copied.
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
        Ok(Self(normalised))
    }

    /// The normalised text.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(typed: &str) -> Option<ViolationReason> {
        Password::parse("password", typed).err().map(|v| v.reason)
    }

    #[test]
    fn composed_and_decomposed_text_is_one_password() {
        let composed = Password::parse("password", "caf\u{e9} au lait").unwrap();
        let decomposed = Password::parse("password", "cafe\u{301} au lait").unwrap();
        assert_eq!(composed.expose(), decomposed.expose());
    }

    #[test]
    fn bounds_hold() {
        assert_eq!(reason(""), Some(ViolationReason::Required));
        assert_eq!(reason("a\0b"), Some(ViolationReason::ForbiddenCharacter));
        assert_eq!(reason(&"x".repeat(256)), None);
        assert_eq!(reason(&"x".repeat(257)), Some(ViolationReason::TooLong));
        assert_eq!(
            reason(&"\u{fdfa}".repeat(100_000)),
            Some(ViolationReason::TooLong)
        );
        assert_eq!(reason("🔑 🐎 \u{202e} everything but NUL is legal"), None);
    }

    #[test]
    fn debug_is_redacted() {
        let password = Password::parse("password", "correct horse").unwrap();
        assert!(!format!("{password:?}").contains("horse"));
    }
}

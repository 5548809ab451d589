//! Names and labels that users enter and others read: bounded, and free of characters that change how text is displayed.

use unicode_normalization::UnicodeNormalization;

use super::{FieldViolation, ViolationReason};

/// A user's display name: NFC, trimmed, at most 200 code points, may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisplayName(String);

/// The label by which a user recognises a session: NFC, trimmed, at most 100 code points, may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceLabel(String);

impl DisplayName {
    const MAX_CODE_POINTS: usize = 200;

    /// Checks the text of the request's `field`.
    ///
    /// # Errors
    /// It is too long, or holds a control or bidirectional formatting character.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, FieldViolation> {
        parse_label(field, text, Self::MAX_CODE_POINTS).map(Self)
    }

    /// A name read back from the database.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl DeviceLabel {
    const MAX_CODE_POINTS: usize = 100;

    /// Checks the text of the request's `field`.
    ///
    /// # Errors
    /// It is too long, or holds a control or bidirectional formatting character.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, FieldViolation> {
        parse_label(field, text, Self::MAX_CODE_POINTS).map(Self)
    }

    /// A label read back from the database.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn parse_label(
    field: &'static str,
    text: &str,
    max_code_points: usize,
) -> Result<String, FieldViolation> {
    let normalised: String = text.trim().nfc().take(max_code_points + 1).collect();
    if normalised.chars().count() > max_code_points {
        return Err(FieldViolation::new(
            field,
            ViolationReason::TooLong,
            format!("must have at most {max_code_points} code points"),
        ));
    }
    if normalised.chars().any(changes_display) {
        return Err(FieldViolation::new(
            field,
            ViolationReason::ForbiddenCharacter,
            "must not contain control or bidirectional formatting characters",
        ));
    }
    Ok(normalised)
}

/// Whether a character can make text display as something else: control characters, and the bidirectional marks,
/// embeddings, overrides and isolates of UAX #9. The zero-width joiner is allowed: emoji sequences and several scripts
/// need it.
fn changes_display(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}'
        )
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emoji_and_every_script_are_accepted() {
        for text in ["", "Ada Lovelace", "👩‍👩‍👧", "أمل", "भारत", "  trimmed  "]
        {
            let name = DisplayName::parse("display_name", text).unwrap();
            assert_eq!(name.as_str(), text.trim());
        }
    }

    #[test]
    fn text_with_control_characters_or_beyond_the_bound_is_refused() {
        for text in ["a\0b", "line\nbreak", "\u{202e}gnp.exe", "x\u{2066}y"] {
            let violation = DisplayName::parse("display_name", text).unwrap_err();
            assert_eq!(violation.reason, ViolationReason::ForbiddenCharacter);
        }
        let violation = DeviceLabel::parse("device_label", &"x".repeat(1_000_000)).unwrap_err();
        assert_eq!(violation.reason, ViolationReason::TooLong);
    }

    #[test]
    fn a_name_is_normalised_to_nfc() {
        let name = DisplayName::parse("display_name", "Ame\u{301}lie").unwrap();
        assert_eq!(name.as_str(), "Am\u{e9}lie");
    }
}

//! What is wrong with one field of a request.

/// Why a field was refused; the `reason` of `google.rpc.BadRequest.FieldViolation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViolationReason {
    /// The field is needed and empty.
    Required,
    /// The field is shorter than it may be.
    TooShort,
    /// The field is longer than it may be.
    TooLong,
    /// The field does not have the form it must have.
    Malformed,
    /// The field holds a character that may not stand there.
    ForbiddenCharacter,
    /// The password is too easy to guess.
    TooGuessable,
}

impl ViolationReason {
    /// The name on the wire, in `SCREAMING_SNAKE_CASE` as `google.rpc.BadRequest` asks.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Required => "REQUIRED",
            Self::TooShort => "TOO_SHORT",
            Self::TooLong => "TOO_LONG",
            Self::Malformed => "MALFORMED",
            Self::ForbiddenCharacter => "FORBIDDEN_CHARACTER",
            Self::TooGuessable => "TOO_GUESSABLE",
        }
    }
}

/// One field of a request and the rule it breaks. It never repeats the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// The field's name in the request message.
    pub field: &'static str,
    /// The rule, for a person.
    pub description: String,
    /// The rule, for a program.
    pub reason: ViolationReason,
}

impl FieldViolation {
    /// Says that `field` breaks the rule that `reason` and `description` tell.
    pub fn new(
        field: &'static str,
        reason: ViolationReason,
        description: impl Into<String>,
    ) -> Self {
        Self {
            field,
            description: description.into(),
            reason,
        }
    }
}

//! Why a field of a request is invalid, in the terms of `google.rpc.BadRequest`.

/// Why a field was refused; the `reason` of `google.rpc.BadRequest.FieldViolation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViolationReason {
    /// The field is required and empty.
    Required,
    /// The field is too short.
    TooShort,
    /// The field is too long.
    TooLong,
    /// The field has the wrong format.
    Malformed,
    /// The field holds a character that is not allowed.
    ForbiddenCharacter,
    /// The password is too easy to guess.
    TooGuessable,
    /// The password is known from a breach.
    Breached,
    /// The value is none of those that are allowed.
    NotAllowed,
}

impl ViolationReason {
    /// The name in `google.rpc.BadRequest.FieldViolation.reason`, in `SCREAMING_SNAKE_CASE`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Required => "REQUIRED",
            Self::TooShort => "TOO_SHORT",
            Self::TooLong => "TOO_LONG",
            Self::Malformed => "MALFORMED",
            Self::ForbiddenCharacter => "FORBIDDEN_CHARACTER",
            Self::TooGuessable => "TOO_GUESSABLE",
            Self::Breached => "BREACHED",
            Self::NotAllowed => "NOT_ALLOWED",
        }
    }
}

/// One field of a request and the rule it breaks. It never contains the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// The field's name in the request message.
    pub field: &'static str,
    /// The rule, for people.
    pub description: String,
    /// The rule, for programs.
    pub reason: ViolationReason,
}

impl FieldViolation {
    /// A violation of `field`: `reason` and `description` name the rule.
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

//! Why a record is not imported, in words for the person who imports it.

use std::fmt;

use crate::{
    domain::FieldViolation,
    passwords::formats::{Refusal, RefusalKind},
};

/// How much of a member's name is kept and shown.
const SHOWN_CHARACTERS: usize = 40;

/// Why a record is not imported. It repeats no value of the record; the name of an unknown member at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The line is longer than any record.
    TooLong,
    /// The line is not UTF-8.
    NotUtf8,
    /// The line is not one JSON object.
    NotJson,
    /// The object has a member that no record has: what is shown of its name.
    UnknownMember(String),
    /// The object has a member twice: what is shown of its name.
    RepeatedMember(String),
    /// A member breaks its rule.
    Field {
        /// The member's name.
        field: &'static str,
        /// The rule.
        rule: String,
    },
    /// The hash of the password is not accepted.
    Hash(Refusal),
    /// A user has the address, or another spelling of it: one of before, or one of an earlier record.
    EmailTaken,
    /// The entry of another system's export is no account that can be imported.
    NotAnAccount(&'static str),
}

impl Reason {
    /// The reason for programs, in `SCREAMING_SNAKE_CASE`.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong => "TOO_LONG",
            Self::NotUtf8 => "NOT_UTF8",
            Self::NotJson => "NOT_JSON",
            Self::UnknownMember(_) => "UNKNOWN_MEMBER",
            Self::RepeatedMember(_) => "REPEATED_MEMBER",
            Self::Field { .. } => "INVALID_FIELD",
            Self::EmailTaken => "EMAIL_TAKEN",
            Self::NotAnAccount(_) => "NOT_AN_ACCOUNT",
            Self::Hash(refusal) => match refusal.kind {
                RefusalKind::NoPassword => "HASH_NO_PASSWORD",
                RefusalKind::PlainText => "HASH_PLAIN_TEXT",
                RefusalKind::Unknown => "HASH_UNKNOWN",
                RefusalKind::NotSupported => "HASH_NOT_SUPPORTED",
                RefusalKind::Malformed => "HASH_MALFORMED",
                RefusalKind::TooCostly => "HASH_TOO_COSTLY",
            },
        }
    }

    /// A reason waits with a thousand others: it keeps no more of a name than is shown.
    pub(super) fn unknown_member(name: &str) -> Self {
        Self::UnknownMember(shown(name))
    }

    pub(super) fn repeated_member(name: &str) -> Self {
        Self::RepeatedMember(shown(name))
    }

    pub(super) fn field(field: &'static str, rule: impl Into<String>) -> Self {
        Self::Field {
            field,
            rule: rule.into(),
        }
    }
}

impl From<FieldViolation> for Reason {
    fn from(violation: FieldViolation) -> Self {
        Self::field(violation.field, violation.description)
    }
}

impl From<Refusal> for Reason {
    fn from(refusal: Refusal) -> Self {
        Self::Hash(refusal)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("longer than 64 KiB"),
            Self::NotUtf8 => f.write_str("not UTF-8"),
            Self::NotJson => f.write_str("not one JSON object"),
            Self::UnknownMember(name) => write!(f, "unknown member \"{name}\""),
            Self::RepeatedMember(name) => write!(f, "member \"{name}\" occurs twice"),
            Self::Field { field, rule } => write!(f, "{field}: {rule}"),
            Self::Hash(refusal) => write!(f, "password_hash: {refusal}"),
            Self::EmailTaken => f.write_str("email: a user or an earlier record has this address"),
            Self::NotAnAccount(what) => f.write_str(what),
        }
    }
}

/// A name that cannot change how a terminal displays the line.
fn shown(name: &str) -> String {
    let mut characters = name.chars();
    let shown: String = characters
        .by_ref()
        .take(SHOWN_CHARACTERS)
        .flat_map(|c| match c.is_ascii_graphic() || c == ' ' {
            true => vec![c],
            false => c.escape_unicode().collect(),
        })
        .collect();
    match characters.next() {
        None => shown,
        Some(_) => shown + "...",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_member_is_shown_short_and_without_control_characters() {
        let text = Reason::unknown_member("a\u{1b}[2J\n\u{202e}é").to_string();
        assert_eq!(text, "unknown member \"a\\u{1b}[2J\\u{a}\\u{202e}\\u{e9}\"");
        let long = Reason::unknown_member(&"x".repeat(1 << 20));
        assert!(matches!(&long, Reason::UnknownMember(kept) if kept.len() < 50));
        assert!(long.to_string().len() < 100, "{long}");
    }
}
